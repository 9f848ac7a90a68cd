// What all pages share: times in one's own zone, keys, the heat's slider, theme, pausing.
"use strict";

const each = (root, selector, action) => {
  if (root.matches && root.matches(selector)) action(root);
  root.querySelectorAll(selector).forEach(action);
};

const kept = {
  get(name) {
    try {
      return localStorage.getItem(name);
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(name, value);
    } catch {
      // Nothing is kept in this browser; the page works without.
    }
  },
};

// Times come in UTC, and are shown where the reader is.
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const calendar = new Intl.DateTimeFormat("sv-SE");

function showTime(element) {
  const moment = new Date(element.dateTime);
  if (Number.isNaN(moment.getTime())) return;
  const today = calendar.format(moment) === calendar.format(new Date());
  element.textContent = (today ? "" : calendar.format(moment) + " ") + clock.format(moment);
  element.title = moment.toISOString();
}

function fade(viewer, percent) {
  const heat = viewer.querySelector(".heat");
  if (heat) heat.style.opacity = percent / 100;
}

function prepareViewer(viewer) {
  const slider = viewer.querySelector("[data-heat]");
  if (!slider) return;
  slider.value = kept.get("heat") ?? slider.value;
  fade(viewer, slider.value);
  slider.addEventListener("input", () => {
    fade(viewer, slider.value);
    kept.set("heat", slider.value);
  });
  const boxes = viewer.querySelector("[data-boxes]");
  boxes?.addEventListener("change", () => {
    viewer.querySelector(".boxes").style.display = boxes.checked ? "" : "none";
  });
}

function switchHeat() {
  const slider = document.querySelector("[data-heat]");
  if (!slider) return;
  const before = slider.dataset.before ?? "60";
  slider.dataset.before = slider.value === "0" ? before : slider.value;
  slider.value = slider.value === "0" ? before : "0";
  slider.dispatchEvent(new Event("input"));
}

function prepare(root) {
  each(root, "time", showTime);
  each(root, "[data-viewer]", prepareViewer);
  each(root, "[data-nojs]", (element) => element.remove());
  each(root, "[data-go]", (element) => element.addEventListener("change", () => element.form.submit()));
  each(root, "[data-back]", (element) =>
    element.addEventListener("click", (event) => {
      event.preventDefault();
      history.back();
    }),
  );
}

// Keys press the buttons that show them, unless one is writing.
function pressed(event) {
  const writing = event.target.closest?.("input:not([type=range]):not([type=checkbox]):not([type=radio]), select, textarea");
  if (writing || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key.toLowerCase();
  if (key === "h") switchHeat();
  const button = /^[a-z]$/.test(key) && document.querySelector(`[data-key="${key}"]:not(:disabled)`);
  if (button) {
    event.preventDefault();
    button.click();
  }
}

function switchTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  kept.set("theme", root.dataset.theme);
  document.dispatchEvent(new Event("theme"));
}

function switchPause(button) {
  const paused = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(paused));
  button.lastChild.textContent = paused ? " Go on" : " Pause";
}

const isPoll = (event) => event.detail.elt.id === "live";

document.addEventListener("DOMContentLoaded", () => {
  prepare(document);
  // On a phone the pages' names scroll; where one is should be in sight.
  const here = document.querySelector(".top nav [aria-current]");
  if (here) here.parentElement.scrollLeft = here.offsetLeft - 16;
  document.addEventListener("keydown", pressed);
  document.querySelector("[data-theme-toggle]")?.addEventListener("click", switchTheme);
  const pause = document.querySelector("[data-pause]");
  pause?.addEventListener("click", () => switchPause(pause));
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (isPoll(event)) {
      if (pause?.getAttribute("aria-pressed") === "true" || document.hidden) event.preventDefault();
    } else {
      document.getElementById("notice").replaceChildren();
    }
  });
  document.addEventListener("htmx:load", (event) => prepare(event.detail.elt));
  for (const name of ["htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(name, () => tell("The station does not answer; what you see may be old."));
  }
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful) document.querySelector("#notice [data-silence]")?.remove();
  });
});

function tell(sentence) {
  if (document.querySelector("#notice [data-silence]")) return;
  const notice = document.createElement("p");
  notice.className = "notice bad";
  notice.dataset.silence = "";
  notice.textContent = sentence;
  document.getElementById("notice").replaceChildren(notice);
}
