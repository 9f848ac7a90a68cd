// Charts by uPlot. What they show is JSON in `data-values`; colours come from the style sheet.
"use strict";

{
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const font = (size) => `${size}px system-ui, sans-serif`;
  const short = (value) => (value == null ? "–" : Number(value).toPrecision(4).replace(/\.?0+$/, ""));
  const drawn = new Map(); // element -> its chart

  const axis = (more = {}) => ({
    stroke: colour("faint"),
    font: font(13),
    grid: { stroke: colour("chart-grid"), width: 1 },
    ticks: { show: false },
    ...more,
  });

  function histogram(values, low, high, bins) {
    const shares = new Array(bins).fill(null);
    for (const value of values) {
      const bin = Math.min(bins - 1, Math.max(0, Math.floor(((value - low) / (high - low)) * bins)));
      shares[bin] = (shares[bin] ?? 0) + 100 / values.length;
    }
    return shares;
  }

  // A line across the plot, with its name at the top.
  function upright(chart, value, name, stroke, dash, row) {
    if (value == null) return;
    const { ctx } = chart;
    const ratio = devicePixelRatio;
    const { left, top, width, height } = chart.bbox;
    const x = Math.round(chart.valToPos(value, "x", true));
    if (x < left - 1 || x > left + width + 1) return;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = stroke;
    ctx.lineWidth = 2 * ratio;
    ctx.setLineDash(dash.map((length) => length * ratio));
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x, top + height);
    ctx.stroke();
    ctx.font = `600 ${font(13 * ratio)}`;
    const room = ctx.measureText(name).width + 8 * ratio;
    const right = x + room < left + width && !(row === 1 && x - room > left); // review stands below fail
    ctx.textAlign = right ? "left" : "right";
    ctx.textBaseline = "top";
    ctx.fillText(name, x + (right ? 6 : -6) * ratio, top + (2 + row * 17) * ratio);
    ctx.restore();
  }

  function scores(element, told) {
    const known = [...told.good, ...(told.recent ?? []), told.threshold, told.review, told.score].filter((value) => value != null);
    const least = Math.min(...known);
    // Very bad parts would squeeze all others into a corner: they are counted at the right edge.
    const far = told.threshold == null ? Infinity : told.threshold + 2.5 * Math.max(told.threshold - least, Math.abs(told.threshold) * 0.1);
    const most = Math.min(Math.max(...known), far);
    const room = (most - least || Math.abs(most) || 1) * 0.04;
    const [low, high, bins] = [least - room, most + room, 56];
    const middle = Array.from({ length: bins }, (_, index) => low + ((index + 0.5) * (high - low)) / bins);
    const data = [middle, histogram(told.good, low, high, bins)];
    const series = [
      { label: "score", value: (_, value) => short(value) },
      { label: "good parts, %", stroke: colour("chart-good"), fill: colour("chart-good"), paths: uPlot.paths.bars({ size: [0.92, Infinity] }), points: { show: false }, value: (_, value) => short(value) },
    ];
    if (told.recent?.length) {
      data.push(histogram(told.recent, low, high, bins).map((share) => share ?? 0));
      series.push({ label: "last parts, %", stroke: colour("chart-recent"), width: 2, paths: uPlot.paths.stepped({ align: 0 }), points: { show: false }, value: (_, value) => short(value) });
    }
    const lines = (chart) => {
      upright(chart, told.review, "review", colour("review"), [6, 4], 1);
      upright(chart, told.threshold, "fail", colour("fail"), [], 0);
      upright(chart, told.score == null ? null : Math.min(told.score, high), told.score > high ? "this part, beyond" : "this part", colour("ink"), [2, 3], 2);
    };
    return {
      data,
      options: {
        height: element.classList.contains("tall") ? 300 : 240,
        scales: { x: { time: false, range: [low, high] }, y: { range: (_, __, max) => [0, max * 1.12] } },
        axes: [axis(), axis({ size: 46, values: (_, ticks) => ticks.map((tick) => `${tick} %`) })],
        series,
        hooks: { draw: [lines] },
      },
    };
  }

  // A point between two gaps has no line to it, and would not be seen.
  const alone = (chart, index, show) => {
    const values = chart.data[index];
    return show ? null : values.flatMap((value, at) => (value != null && values[at - 1] == null && values[at + 1] == null ? [at] : []));
  };

  const line = (label, stroke, more = {}) => ({
    label, stroke: colour(stroke), width: 2, spanGaps: false, points: { size: 6, fill: colour(stroke), filter: alone }, value: (_, value) => short(value), ...more,
  });

  const kinds = {
    verdicts: (told) => {
      const names = ["pass", "review", "fail", "error"].filter((name) => name === "pass" || told[name].some(Boolean));
      const sums = names.map((_, index) => told.times.map((__, at) => names.slice(0, index + 1).reduce((sum, name) => sum + told[name][at], 0)));
      const colours = { pass: "pass-solid", review: "review-solid", fail: "fail-solid", error: "error-solid" };
      // The tallest first, so that each lower one is drawn over it: stacked.
      const order = names.map((name, index) => [name, sums[index]]).reverse();
      return {
        data: [told.times, ...order.map(([, sum]) => sum)],
        series: order.map(([name]) => ({
          label: name, stroke: colour(colours[name]), fill: colour(colours[name]), paths: uPlot.paths.bars({ size: [0.85, 60] }), points: { show: false },
          value: (chart, _, __, at) => (at == null ? "–" : told[name][at]),
        })),
        least: 0,
      };
    },
    yield: (told) => ({ data: [told.times, told.yield], series: [line("yield, %", "pass")], range: [Math.max(0, Math.min(90, ...told.yield.filter((value) => value != null)) - 2), 100] }),
    score: (told) => ({ data: [told.times, told.score, told.worst], series: [line("mean", "accent"), line("worst", "fail", { dash: [6, 4] })], least: 0 }),
    latency: (told) => ({ data: [told.times, told.latency, told.slowest], series: [line("mean, ms", "accent"), line("longest, ms", "fail", { dash: [6, 4] })], least: 0 }),
  };

  function overTime(kind, told) {
    const { data, series, least, range } = kinds[kind](told);
    return {
      data,
      options: {
        height: 240,
        cursor: { sync: { key: "trends" } },
        scales: { y: { range: range ?? ((_, min, max) => [least ?? min, (max || 1) * 1.08]) } },
        axes: [axis(), axis({ size: 54 })],
        series: [{ label: "from", value: "{YYYY}-{MM}-{DD} {HH}:{mm}" }, ...series],
      },
    };
  }

  function draw(element) {
    const source = element.dataset.from ? document.querySelector(element.dataset.from) : element;
    const told = element.told ?? JSON.parse(source.dataset.values);
    element.told = told;
    drawn.get(element)?.destroy();
    const kind = element.dataset.chart;
    const { data, options } = kind === "scores" ? scores(element, told) : overTime(kind, told);
    const width = Math.max(200, element.clientWidth);
    drawn.set(element, new uPlot({ width, legend: { live: true }, ...options }, data, element));
  }

  const redraw = () => drawn.forEach((_, element) => draw(element));

  function moveLines(told) {
    const element = document.getElementById("scores");
    if (!element?.told) return;
    Object.assign(element.told, told);
    drawn.get(element)?.redraw(false);
  }

  // The threshold page: slider and number are one value; which is touched says how it is set.
  function pairSliders(form) {
    const line = { threshold: "threshold", review_threshold: "review" };
    const mode = (value) => (form.querySelector(`[name=mode][value=${value}]`).checked = true);
    for (const slider of form.querySelectorAll("[data-pair]")) {
      const name = slider.dataset.pair;
      const field = form.elements[name];
      const touched = (value) => {
        mode("hand");
        if (name === "threshold" && Number(form.elements.review_threshold.value) > value) setPair(form, "review_threshold", value);
        moveLines({ [line[name]]: value, ...(name === "threshold" && form.elements.review_threshold.value ? { review: Number(form.elements.review_threshold.value) } : {}) });
      };
      slider.addEventListener("input", () => {
        let value = Number(slider.value);
        if (name === "review_threshold") value = Math.min(value, Number(form.elements.threshold.value));
        field.value = Number(value.toPrecision(6));
        if (name === "review_threshold" && Number(field.value) > Number(form.elements.threshold.value)) field.value = form.elements.threshold.value;
        touched(value);
      });
      field.addEventListener("input", () => {
        if (field.value === "" && name === "review_threshold") return void (mode("hand"), moveLines({ review: null }));
        const value = Number(field.value);
        if (field.value === "" || Number.isNaN(value)) return;
        slider.value = value;
        mode("hand");
        moveLines({ [line[name]]: value });
      });
    }
    for (const name of ["false_alarm_rate", "review_rate", "confidence"]) {
      form.elements[name].addEventListener("input", () => mode("promise"));
    }
  }

  function setPair(form, name, value) {
    form.elements[name].value = Number(value.toPrecision(6));
    form.querySelector(`[data-pair=${name}]`).value = value;
  }

  // What a promise comes to moves the lines and the sliders.
  function follow(preview) {
    if (!preview.dataset.thresholds) return;
    const told = JSON.parse(preview.dataset.thresholds);
    moveLines(told);
    const form = document.getElementById("rule");
    if (form.elements.mode.value !== "promise") return;
    setPair(form, "threshold", told.threshold);
    if (told.review == null) form.elements.review_threshold.value = "";
    else setPair(form, "review_threshold", told.review);
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("[data-chart]").forEach(draw);
    const form = document.getElementById("rule");
    if (form) pairSliders(form);
    document.addEventListener("htmx:afterSwap", () => {
      const preview = document.getElementById("preview");
      if (preview) follow(preview);
    });
    document.addEventListener("theme", redraw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    let timer;
    addEventListener("resize", () => {
      clearTimeout(timer);
      timer = setTimeout(redraw, 120);
    });
  });
}
