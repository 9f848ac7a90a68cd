"""The station: what runs beside the line. It inspects, records, shows, and learns from people."""
