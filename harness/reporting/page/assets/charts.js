"use strict";
// Plotly in the colours of the page. Each picture is made by a function of these colours, and made again when the page goes dark or light.
const charts = (() => {
  const makers = new Map();
  const look = () => {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    return { ink: of("--ink"), muted: of("--muted"), line: of("--line"), paper: of("--paper"), surface: of("--surface"), accent: of("--accent"), sans: of("--sans") };
  };
  const axis = (colours, title) => ({
    title: { text: title, font: { size: 12.5, color: colours.muted }, standoff: 10 },
    gridcolor: colours.line, linecolor: colours.line, zeroline: false, fixedrange: true, ticks: "", tickfont: { size: 12, color: colours.muted },
  });
  const render = (element) => {
    const colours = look();
    const { traces, layout } = makers.get(element)(colours);
    const whole = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: colours.sans, color: colours.ink, size: 12.5 },
      margin: { l: 52, r: 12, t: 14, b: 48 }, hovermode: "closest", showlegend: false,
      hoverlabel: { bgcolor: colours.surface, bordercolor: colours.line, font: { color: colours.ink, family: colours.sans, size: 13 } },
      ...layout,
    };
    return Plotly.react(element, traces, whole, { displayModeBar: false, responsive: true });
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => makers.forEach((_, element) => render(element)));
  return {
    axis,
    draw(element, make) {
      makers.set(element, make);
      return render(element);
    },
  };
})();
