// Hover over a figure reads its values; a click on a unit's name hides the unit in all figures. What is hidden stands in
// the address (#hide=GRU,LSTM), so that a view can be shared.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("curves").textContent);
  const figures = [...document.querySelectorAll("svg[data-figure]")];
  const SVG = "http://www.w3.org/2000/svg";
  let hidden = new Set();

  const show = () => {
    for (const part of document.querySelectorAll("svg [data-unit]")) {
      const off = hidden.has(part.dataset.unit);
      part.classList.toggle("off", off);
      if (part.classList.contains("name")) part.setAttribute("aria-pressed", String(!off));
    }
  };

  const read = () => {
    const told = /^#hide=(.*)$/.exec(location.hash);
    if (told || !location.hash) {
      hidden = new Set(told ? told[1].split(",").filter(Boolean).map(decodeURIComponent) : []);
      show();
    }
  };

  const toggle = (unit) => {
    if (!hidden.delete(unit)) hidden.add(unit);
    history.replaceState(null, "", "#" + (hidden.size ? "hide=" + [...hidden].map(encodeURIComponent).join(",") : ""));
    show();
  };

  const nearest = (xs, x) => {
    let best = 0;
    xs.forEach((value, i) => { if (Math.abs(value - x) < Math.abs(xs[best] - x)) best = i; });
    return best;
  };

  const cell = (row, text, kind = "td") => {
    const made = row.appendChild(document.createElement(kind));
    made.textContent = text;
    return made;
  };
  const digits = (value) => value === null || value === undefined ? "–" : value.toFixed(3);

  // The values at a position of a figure, as a small table; units that have ended before it are left out.
  const reading = (lines, against, x, reach) => {
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    const about = cell(head, `${x.toFixed(1)} s`, "th");
    const series = against === "rate" ? ["validation"] : ["validation", "training"];
    for (const name of series) cell(head, name, "th");
    for (const line of lines) {
      const xs = line[against], i = nearest(xs, x);
      if (!xs.length || hidden.has(line.unit) || !reach(xs[i])) continue;
      const row = table.insertRow();
      cell(row, line.unit, "th");
      row.cells[0].style.borderLeft = `0.35rem solid ${line.colour}`;
      for (const name of series) cell(row, digits(line[name][i]));
      if (against !== "seconds") about.textContent = `${against} ${xs[i]}`;
    }
    return table;
  };

  const prepare = (svg) => {
    const [, slug, against] = /^(.*)-([a-z]+)$/.exec(svg.dataset.figure);
    const lines = data[slug][against === "rate" ? "rates" : "curves"];
    const [left, top, width, height] = svg.dataset.box.split(" ").map(Number);
    const log = svg.dataset.scale === "log";
    const [from, to] = svg.dataset.x.split(" ").map((v) => log ? Math.log(v) : Number(v));
    const place = (x) => left + ((log ? Math.log(x) : x) - from) / (to - from) * width;
    const box = svg.parentNode.appendChild(document.createElement("div"));
    box.className = "reading";
    const rule = svg.appendChild(document.createElementNS(SVG, "line"));
    rule.classList.add("rule");

    const leave = () => { rule.style.display = box.style.display = ""; };
    const move = (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const inside = at.x >= left && at.x <= left + width && at.y >= top && at.y <= top + height;
      if (!inside) return leave();
      const share = from + (at.x - left) / width * (to - from);
      const x = log ? Math.exp(share) : share;
      const beyond = width / 20;
      box.replaceChildren(reading(lines, against, x, (value) => Math.abs(place(value) - at.x) < beyond));
      for (const [name, value] of [["x1", at.x], ["x2", at.x], ["y1", top], ["y2", top + height]])
        rule.setAttribute(name, value);
      rule.style.display = box.style.display = "block";
      const right = at.x > left + width / 2;
      const far = svg.viewBox.baseVal.width;
      box.style.left = right ? "auto" : `${100 * (at.x + 8) / far}%`;
      box.style.right = right ? `${100 * (1 - (at.x - 8) / far)}%` : "auto";
    };
    svg.addEventListener("pointermove", move);
    svg.addEventListener("pointerdown", move);
    svg.addEventListener("pointerleave", leave);
  };

  const wire = (name) => {
    name.setAttribute("role", "button");
    if (name.querySelector("text")) name.setAttribute("tabindex", "0");
    name.addEventListener("click", () => toggle(name.dataset.unit));
    name.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); toggle(name.dataset.unit); }
    });
  };

  document.querySelectorAll("svg .name").forEach(wire);
  figures.forEach(prepare);
  document.documentElement.classList.add("live");
  addEventListener("hashchange", read);
  read();
})();
