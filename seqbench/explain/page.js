// Hover over a picture reads the value below the pointer.
"use strict";
(() => {
  const known = JSON.parse(document.getElementById("values").textContent);

  // The upper 16 bits of a number in float32, the lower byte first; NaN where there is none.
  const unpack = (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const bits = new Uint32Array(1), number = new Float32Array(bits.buffer);
    return (n) => {
      bits[0] = (bytes[2 * n] + 256 * bytes[2 * n + 1]) << 16;
      return number[0];
    };
  };
  const digits = (value) => String(Number(value.toPrecision(3)));

  const prepare = (figure) => {
    const svg = figure.querySelector("svg");
    const parts = known[figure.dataset.picture].map((part) => ({...part, at: unpack(part.values)}));
    const box = figure.appendChild(document.createElement("div"));
    box.className = "reading";
    const leave = () => { box.style.display = "none"; };
    const move = (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      for (const part of parts) {
        const [left, top, width, height] = part.box;
        const column = Math.floor((at.x - left) / width * part.columns.length);
        const row = Math.floor((at.y - top) / height * part.rows.length);
        if (row < 0 || column < 0 || row >= part.rows.length || column >= part.columns.length) continue;
        const value = part.at(row * part.columns.length + column);
        if (Number.isNaN(value)) break;
        box.textContent = `${part.rows[row]}, ${part.columns[column]}: ${part.what} ${digits(value)}`;
        const far = svg.viewBox.baseVal;
        box.style.display = "block";
        box.style.top = `${100 * at.y / far.height * svg.clientHeight / figure.clientHeight}%`;
        const right = at.x > far.width / 2;
        box.style.left = right ? "auto" : `${100 * (at.x + 12) / far.width}%`;
        box.style.right = right ? `${100 * (1 - (at.x - 12) / far.width)}%` : "auto";
        return;
      }
      leave();
    };
    svg.addEventListener("pointermove", move);
    svg.addEventListener("pointerdown", move);
    svg.addEventListener("pointerleave", leave);
  };

  document.querySelectorAll("figure").forEach(prepare);
  document.documentElement.classList.add("live");
})();
