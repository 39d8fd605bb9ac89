// The graph: zoom, pan, search, details. Text from the model reaches the page by textContent alone.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("graph-data").textContent);
  const area = document.querySelector(".graph-area");
  if (!area) return;
  const canvas = document.querySelector(".canvas");
  const side = document.querySelector(".side");
  const search = document.getElementById("graph-search");
  const chooser = document.getElementById("graph-choice");
  const drawings = [...canvas.querySelectorAll("svg")];
  const WIDTH = 236, HEIGHT = 46; // of a block, as lay_out_graph.py has it
  const MARGIN = 12, MOST_FOUND = 60, SMALLEST = 0.02, LARGEST = 4, READABLE = 0.55;
  let shown = 0, chosen = null, scale = 1, left = 0, top = 0;

  document.documentElement.classList.add("js");
  for (const drawing of drawings) drawing.removeAttribute("viewBox");

  const sizeOf = (drawing) => [Number(drawing.dataset.width), Number(drawing.dataset.height)];
  const apply = () => drawings[shown].querySelector(".view").setAttribute("transform", `translate(${left} ${top}) scale(${scale})`);

  // As tall as the tallest graph needs, within limits.
  const tallest = Math.max(...drawings.map((drawing) => sizeOf(drawing)[1]));
  area.style.setProperty("--tall", `${Math.round(Math.max(340, Math.min(560, tallest + 80)))}px`);

  function fit(whole) {
    const [width, height] = sizeOf(drawings[shown]);
    const across = (canvas.clientWidth - 2 * MARGIN) / width, down = (canvas.clientHeight - 2 * MARGIN) / height;
    scale = Math.max(SMALLEST, Math.min(1, across, down));
    if (!whole && scale < READABLE) scale = Math.min(1, Math.max(across, READABLE)); // its beginning, at a size that can be read
    left = (canvas.clientWidth - width * scale) / 2;
    top = Math.max(MARGIN, (canvas.clientHeight - height * scale) / 2);
    apply();
  }

  function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
    const next = Math.max(SMALLEST, Math.min(LARGEST, scale * factor));
    left = x - (x - left) * next / scale;
    top = y - (y - top) * next / scale;
    scale = next;
    apply();
  }

  function pan(x, y) { left += x; top += y; apply(); }

  function show(index) {
    shown = index;
    drawings.forEach((drawing, place) => { drawing.style.display = place === index ? "" : "none"; });
    if (chooser) chooser.value = String(index);
    fit(false);
  }

  function make(name, text, parent) {
    const element = document.createElement(name);
    element.textContent = text;
    parent.append(element);
    return element;
  }

  function listCounts(title, pairs, parent) {
    if (!pairs.length) return;
    make("h5", title, parent);
    const list = make("ol", "", parent);
    for (const [name, count] of pairs) {
      const item = make("li", "", list);
      make("span", name, item);
      make("span", count.toLocaleString("en"), item);
    }
  }

  function describe(graph, index) {
    const block = data.graphs[graph].blocks[index];
    side.replaceChildren();
    make("h4", block.name, side);
    make("div", block.told, side).className = "muted";
    for (const line of block.lines) make("div", line, side);
    listCounts("Why native", block.reasons, side);
    listCounts("Layers and name scopes, with nodes", block.layers, side);
    listCounts("Operations", block.ops, side);
    side.scrollTop = 0;
  }

  function choose(graph, index, centre) {
    if (graph !== shown) show(graph);
    for (const other of canvas.querySelectorAll(".chosen")) other.classList.remove("chosen");
    const element = drawings[graph].querySelector(`[data-block="${index}"]`);
    element.classList.add("chosen");
    chosen = index;
    describe(graph, index);
    if (centre) {
      const [x, y] = element.getAttribute("transform").match(/-?[\d.]+/g).map(Number);
      scale = Math.max(scale, 0.9);
      left = canvas.clientWidth / 2 - (x + WIDTH / 2) * scale;
      top = canvas.clientHeight / 2 - (y + HEIGHT / 2) * scale;
      apply();
    }
  }

  function* findMatches(words) {
    for (const [graph, { blocks }] of data.graphs.entries()) {
      for (const [index, block] of blocks.entries()) {
        const texts = [block.name, ...[...block.layers, ...block.ops, ...block.reasons].map(([name]) => name)];
        const found = texts.filter((text) => words.every((word) => text.toLowerCase().includes(word)));
        if (found.length) yield { graph, index, block, found };
      }
    }
  }

  function find() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const hit of canvas.querySelectorAll(".hit")) hit.classList.remove("hit");
    canvas.classList.toggle("searching", words.length > 0);
    if (!words.length) return welcome();
    const matches = [...findMatches(words)];
    side.replaceChildren();
    make("div", matches.length === 1 ? "1 block has it" : `${matches.length.toLocaleString("en")} blocks have it`, side).setAttribute("role", "status");
    for (const { graph, index, block, found } of matches.slice(0, MOST_FOUND)) {
      drawings[graph].querySelector(`[data-block="${index}"]`).classList.add("hit");
      const button = make("button", block.name, side);
      button.type = "button";
      const more = found.filter((text) => text !== block.name);
      if (more.length) make("div", more.slice(0, 3).join(", ") + (more.length > 3 ? `, ${more.length - 3} more` : ""), button).className = "muted";
      button.addEventListener("click", () => choose(graph, index, true));
    }
    for (const { graph, index } of matches.slice(MOST_FOUND)) drawings[graph].querySelector(`[data-block="${index}"]`).classList.add("hit");
    if (matches.length > MOST_FOUND) make("div", `${matches.length - MOST_FOUND} more are marked in the graph`, side).className = "muted";
  }

  function welcome() {
    if (chosen !== null) return describe(shown, chosen);
    side.replaceChildren();
    make("div", "Choose a block to see its layers and operations, or search for a layer.", side).className = "muted";
  }

  function start(index) {
    show(index);
    const largest = data.graphs[index].largest;
    if (largest === null) welcome(); else choose(index, largest, false);
  }

  function step(by) {
    const count = data.graphs[shown].blocks.length;
    if (count) choose(shown, chosen === null ? 0 : (chosen + by + count) % count, true);
  }

  const pointers = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const other = [...pointers.entries()].find(([id]) => id !== event.pointerId);
    moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
    if (moved > 4 && !canvas.hasPointerCapture(event.pointerId)) { canvas.setPointerCapture(event.pointerId); canvas.classList.add("moving"); }
    if (other) {
      const [x, y] = other[1], frame = canvas.getBoundingClientRect();
      const factor = Math.hypot(now[0] - x, now[1] - y) / Math.max(1, Math.hypot(before[0] - x, before[1] - y));
      zoom(factor, (now[0] + x) / 2 - frame.left, (now[1] + y) / 2 - frame.top);
    } else if (moved > 4) {
      pan(now[0] - before[0], now[1] - before[1]);
    }
    pointers.set(event.pointerId, now);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => { pointers.delete(event.pointerId); canvas.classList.remove("moving"); });
  }
  canvas.addEventListener("click", (event) => {
    const block = event.target.closest(".block");
    if (block && moved <= 4) choose(shown, Number(block.dataset.block), false);
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // else the page scrolls, as it does elsewhere
    event.preventDefault();
    const frame = canvas.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 300), event.clientX - frame.left, event.clientY - frame.top);
  }, { passive: false });
  const KEYS = {
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), "0": () => fit(true), n: () => step(1), p: () => step(-1),
    ArrowLeft: () => pan(60, 0), ArrowRight: () => pan(-60, 0), ArrowUp: () => pan(0, 60), ArrowDown: () => pan(0, -60),
  };
  canvas.addEventListener("keydown", (event) => {
    const act = KEYS[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  search.addEventListener("input", find);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") side.querySelector("button")?.click();
    if (event.key === "Escape") { search.value = ""; find(); }
  });
  document.getElementById("zoom-in").addEventListener("click", () => zoom(1.25));
  document.getElementById("zoom-out").addEventListener("click", () => zoom(0.8));
  document.getElementById("zoom-fit").addEventListener("click", () => fit(true));
  chooser?.addEventListener("change", () => { chosen = null; start(Number(chooser.value)); });
  let width = canvas.clientWidth;
  new ResizeObserver(() => { if (canvas.clientWidth !== width) { width = canvas.clientWidth; fit(false); } }).observe(area);
  start(0);
})();
