"use strict";
// The training curve of one model, from the JSON in the page.
(() => {
  const curve = JSON.parse(document.getElementById("curve").textContent);
  document.querySelector(".curve").hidden = false;
  const mode = curve.epoch.length > 40 ? "lines" : "lines+markers";
  const epochs = (colours) => ({ ...charts.axis(colours, "epoch"), rangemode: "tozero", tickformat: "d", nticks: 8 });
  const line = (name, column, colour, more) => ({
    type: "scatter", mode, name, x: curve.epoch, y: curve[column], marker: { size: 8, color: colour, ...more.marker },
    line: { color: colour, width: 2, ...more.line }, hovertemplate: `epoch %{x}: %{y:.3~f}<extra>${name}</extra>`,
  });
  charts.draw(document.getElementById("loss"), (colours) => ({
    traces: [line("training loss", "train_loss", colours.muted, { marker: { symbol: "square" } })],
    layout: { xaxis: epochs(colours), yaxis: charts.axis(colours, "training loss") },
  }));
  charts.draw(document.getElementById("accuracies"), (colours) => ({
    traces: [
      line("held-out, clean", "hold_out_clean_accuracy", "#0072B2", { marker: { symbol: "circle-open" }, line: { dash: "dash" } }),
      line("held-out, PGD", "hold_out_pgd_accuracy", "#D55E00", { marker: { symbol: "circle" } }),
      line("training, its attack", "train_robust_accuracy", "#009E73", { marker: { symbol: "triangle-up" }, line: { dash: "dot" } }),
    ].filter((trace) => trace.y.some((value) => value !== null)),
    layout: {
      xaxis: epochs(colours), yaxis: { ...charts.axis(colours, "accuracy, per cent"), rangemode: "tozero" },
      showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { color: colours.muted } }, margin: { l: 52, r: 12, t: 44, b: 48 },
    },
  }));
})();
