"use strict";
// Leaderboards: which one is shown, which of its rows, in which order, and the picture of what is shown. The table is where all numbers are.
(() => {
  const boards = [...document.querySelectorAll(".board")];
  const form = document.getElementById("filters");
  if (!boards.length) return;
  const { dataset, threat, suite, name, bits, bytes } = form.elements;
  const families = new Map([...form.querySelectorAll("[name=family]")].map((box) => [box.value, box.dataset]));
  const rowsOf = (board) => [...board.querySelectorAll("tbody tr")];
  let shown = boards[0];
  let sizes = [];

  // Which board: the threat models are those of the data set, the suites those of both.
  const fill = (select, values, chosen) => {
    select.replaceChildren(...values.map((value) => new Option(value, value, false, value === chosen)));
  };
  const distinct = (key, among) => [...new Set(among.map((board) => board.dataset[key]))];
  const show = (board) => {
    shown = board;
    const { dataset: set, threat: model, suite: by } = board.dataset;
    const ofSet = boards.filter((other) => other.dataset.dataset === set);
    fill(dataset, distinct("dataset", boards), set);
    fill(threat, distinct("threat", ofSet), model);
    fill(suite, distinct("suite", ofSet.filter((other) => other.dataset.threat === model)), by);
    boards.forEach((other) => { other.hidden = other !== board; });
    sizes = [...new Set(rowsOf(board).map((row) => Number(row.dataset.bytes)).filter(Boolean))].sort((a, b) => a - b);
    bytes.max = Math.max(sizes.length - 1, 0);
    bytes.value = bytes.max;
    filter();
  };
  const choose = (...keys) => {
    const wanted = { dataset: dataset.value, threat: threat.value, suite: suite.value };
    const found = boards.find((board) => keys.every((key) => board.dataset[key] === wanted[key]));
    history.replaceState(null, "", `#${found.id}`);
    show(found);
  };
  dataset.addEventListener("change", () => choose("dataset"));
  threat.addEventListener("change", () => choose("dataset", "threat"));
  suite.addEventListener("change", () => choose("dataset", "threat", "suite"));
  const linked = () => boards.find((board) => `#${board.id}` === location.hash);
  addEventListener("hashchange", () => { if (linked()) show(linked()); });

  // Which rows.
  const fits = (row) => {
    const words = name.value.toLowerCase().split(/\s+/).filter(Boolean);
    const ticked = [...form.querySelectorAll("[name=family]:checked")].map((box) => box.value);
    const limited = Number(bytes.value) < Number(bytes.max);
    return words.every((word) => row.dataset.model.toLowerCase().includes(word))
      && ticked.includes(row.dataset.family)
      && (!bits.value || row.dataset.bits === bits.value)
      && (!limited || (row.dataset.bytes !== "" && Number(row.dataset.bytes) <= sizes[bytes.value]))
      && [...form.querySelectorAll("[data-taxonomy]")].every((one) => !one.value || row.dataset[one.dataset.taxonomy] === one.value);
  };
  const filter = () => {
    const rows = rowsOf(shown);
    rows.forEach((row) => { row.hidden = !fits(row); });
    const left = rows.filter((row) => !row.hidden);
    const limit = Number(bytes.value) < Number(bytes.max) ? sizes[bytes.value].toLocaleString("en") : "any";
    document.getElementById("bytes-said").value = limit;
    bytes.setAttribute("aria-valuetext", limit);
    document.getElementById("said").textContent = `${left.length} of ${rows.length} models`;
    shown.querySelector(".none").hidden = left.length > 0;
    shown.querySelector(".scroll").hidden = left.length === 0;
    picture(left);
  };
  form.addEventListener("input", (event) => { if (![dataset, threat, suite].includes(event.target)) filter(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => show(shown)));

  // In which order. What is unknown comes last both ways.
  const sort = (head, way) => {
    const body = head.closest("table").tBodies[0];
    const place = [...head.parentNode.children].indexOf(head);
    const numeric = head.classList.contains("number");
    const value = (row) => row.children[place].dataset.sort;
    const sign = way === "ascending" ? 1 : -1;
    const compare = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true }));
    const rows = [...body.rows].sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === "" || b === "") return Number(a === "") - Number(b === "");
      return sign * compare(a, b) || one.dataset.model.localeCompare(other.dataset.model, "en");
    });
    body.append(...rows);
    [...head.parentNode.children].forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", way);
  };
  document.querySelectorAll(".leaders thead th").forEach((head) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.classList.contains("text") || head.dataset.field === "bytes" ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      sort(head, head.getAttribute("aria-sort") === first ? other : first);
    });
  });

  // The picture.
  const safe = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const tick = (value) => (value >= 2 ** 20 ? `${value / 2 ** 20} MiB` : value >= 1024 ? `${value / 1024} KiB` : `${value} B`);
  const front = (rows) => {
    let best = -1;
    return rows.filter((row) => row.dataset.fit === "1")
      .sort((a, b) => a.dataset.bytes - b.dataset.bytes || b.dataset.worst - a.dataset.worst)
      .filter((row) => { const better = Number(row.dataset.worst) > best; if (better) best = Number(row.dataset.worst); return better; });
  };
  const picture = (left) => {
    const figure = shown.querySelector(".scatter");
    const rows = left.filter((row) => row.dataset.bytes && row.dataset.worst);
    figure.hidden = !rows.length;
    if (!rows.length) return;
    const plot = figure.querySelector(".plot");
    const number = (key) => (row) => Number(row.dataset[key]);
    charts.draw(plot, (colours) => {
      const of = (family) => rows.filter((row) => row.dataset.family === family);
      const traces = [...families.keys()].filter((family) => of(family).length).map((family) => {
        const { colour, symbol } = families.get(family);
        const mine = of(family);
        const symbols = mine.map((row) => (row.dataset.verdict === "ok" ? symbol : `${symbol}-open`));
        return {
          type: "scatter", mode: "markers", cliponaxis: false, x: mine.map(number("bytes")), y: mine.map(number("worst")), customdata: mine.map((row) => row.querySelector("a")?.getAttribute("href")),
          error_y: { type: "data", symmetric: false, array: mine.map((row) => row.dataset.high - row.dataset.worst), arrayminus: mine.map((row) => row.dataset.worst - row.dataset.low), color: colour, thickness: 1.1, width: 3 },
          marker: { color: colour, symbol: symbols, size: symbol.startsWith("triangle") ? 13 : 11, line: { color: symbols.map((one) => (one.endsWith("open") ? colour : colours.paper)), width: 1.5 } },
          text: mine.map((row) => {
            const cell = row.querySelector("td");
            const said = [...cell.querySelectorAll(".value, .interval, .partial")].map((part) => part.textContent).join(" ");
            return `<b>${safe(row.dataset.model)}</b><br>${safe(said)}<br>${number("bytes")(row).toLocaleString("en")} bytes<br>verdict: ${safe(row.dataset.verdict || "not diagnosed")}`;
          }),
          hovertemplate: "%{text}<extra></extra>",
        };
      });
      const best = front(rows);
      const low = Math.min(...rows.map(number("bytes")));
      const high = Math.max(...rows.map(number("bytes")));
      const range = [Math.log10(low / 1.5), Math.log10(high * 1.6)];
      if (best.length) {
        // From the last of the front to the edge: nothing larger is better.
        const line = { x: [...best.map(number("bytes")), 10 ** range[1]], y: [...best, best.at(-1)].map(number("worst")) };
        traces.unshift({ type: "scatter", mode: "lines", ...line, line: { shape: "hv", color: colours.muted, width: 1.2, dash: "dot" }, hoverinfo: "skip" });
      }
      const every = matchMedia("(max-width: 44rem)").matches ? 2 : 1;
      const ticks = Array.from({ length: 50 }, (_, power) => 2 ** power).filter((value, power) => power % every === 0 && value >= 10 ** range[0] && value <= 10 ** range[1]);
      const top = Math.max(...rows.map(number("high")));
      return {
        traces,
        layout: {
          xaxis: { ...charts.axis(colours, "packed checkpoint (log scale)"), type: "log", range, tickvals: ticks, ticktext: ticks.map(tick) },
          yaxis: { ...charts.axis(colours, "worst-case robust accuracy, %"), range: [0, Math.min(Math.max(20, 1.08 * top), 102)] },
        },
      };
    });
    if (!plot.dataset.follows) {
      plot.dataset.follows = "yes";
      plot.on("plotly_click", (event) => { const to = event.points[0].customdata; if (to) location.href = to; });
    }
  };

  form.hidden = false;
  show(linked() ?? boards[0]);
  if (linked()) shown.scrollIntoView();
})();
