// Draws the plots of a run's page, and keeps a live page up to date. K is the bundle of Observable
// Plot and Idiomorph (tools/page_assets).
"use strict";
(() => {
  const PERIOD_MS = 2000;
  const WIDEST = 960;

  const status = () => JSON.parse(document.getElementById("status").textContent);
  const seconds = (value) => (value < 120 ? `${Math.round(value)} s` : `${Math.round(value / 60)} min`);

  // The rows of a timeline as points {x1, x2, name, value}, with values by `scale`.
  function points(rows, width, scale) {
    const found = [];
    for (const [name, row] of Object.entries(rows)) {
      row.forEach((value, place) => {
        if (value) found.push({x1: place * width, x2: (place + 1) * width, name, value: value * scale});
      });
    }
    return found;
  }

  const base = (figure, more) => ({
    width: Math.min(figure.clientWidth, WIDEST),
    marginLeft: 44,
    style: {background: "none", color: "currentColor", fontFamily: "inherit", fontSize: "12px"},
    x: {label: null, tickFormat: seconds, ticks: 6},
    color: {scheme: "Tableau10", legend: true},
    ...more,
  });

  const draw = {
    // How many tasks ended, over time, by app.
    tasks(figure, of) {
      const {width, done, failed} = of.timeline;
      const named = {...done};
      for (const [app, row] of Object.entries(failed)) named[`${app} (failed)`] = row;
      const data = points(named, width, 1);
      if (!data.length) return null;
      return K.plot(base(figure, {
        height: 200,
        y: {label: `tasks ended in ${seconds(width)}`, grid: true},
        marks: [
          K.rectY(data, K.stackY({x1: "x1", x2: "x2", y: "value", fill: "name", tip: true})),
          K.ruleY([0]),
        ],
      }));
    },

    // How many workers were there, and what they worked on.
    workers(figure, of) {
      const {width, busy, workers} = of.timeline;
      const data = points(busy, width, 1 / width);
      const there = workers.map((value, place) => ({x: (place + 0.5) * width, y: value / width}));
      if (!data.length && !there.some((point) => point.y)) return null;
      return K.plot(base(figure, {
        height: 200,
        y: {label: "workers", grid: true},
        marks: [
          K.rectY(data, K.stackY({x1: "x1", x2: "x2", y: "value", fill: "name", tip: true})),
          K.lineY(there, {x: "x", y: "y", stroke: "currentColor", strokeDasharray: "4 3"}),
          K.ruleY([0]),
        ],
      }));
    },

    // A row for each worker: the darker, the busier.
    rows(figure, of) {
      const {width, by_worker: rows} = of.timeline;
      if (!rows.length) return null;
      const data = rows.flatMap(({pod, worker, busy}) =>
        busy.map((value, place) => ({
          x1: place * width,
          x2: (place + 1) * width,
          y: `${pod.split("-").slice(-2).join("-")} · ${worker}`,
          busy: Math.min(value / width, 1),
        })));
      return K.plot(base(figure, {
        height: 40 + 16 * rows.length,
        marginLeft: 110,
        y: {label: null},
        color: {type: "linear", scheme: "Blues", domain: [-0.15, 1], label: "busy"},
        marks: [K.rect(data, {x1: "x1", x2: "x2", y: "y", fill: "busy", inset: 0.5, tip: true})],
      }));
    },

    // Where the workers' time went.
    why(figure, of) {
      const parts = of.why.parts;
      if (!parts.length) return null;
      return K.plot(base(figure, {
        height: 70,
        marginLeft: 10,
        x: {label: null, percent: true, tickFormat: (value) => `${value} %`},
        marks: [K.barX(parts, K.stackX({x: "share", fill: "what", tip: true}))],
      }));
    },

    // How long the tasks of each app took.
    durations(figure, of) {
      const data = of.apps.slice(0, 8).flatMap(({app, histogram: {bounds, counts}}) =>
        counts.map((count, place) => ({
          app,
          count,
          bound: place < bounds.length ? `≤ ${bounds[place]} s` : `> ${bounds.at(-1)} s`,
          place,
        })));
      const used = data.filter((one) => one.count);
      if (!used.length) return null;
      const first = Math.min(...used.map((one) => one.place));
      const last = Math.max(...used.map((one) => one.place));
      const shown = data.filter((one) => one.place >= first && one.place <= last);
      return K.plot(base(figure, {
        height: 60 + 60 * new Set(shown.map((one) => one.app)).size,
        marginLeft: 44,
        marginRight: 110,
        x: {label: null, domain: [...new Set(shown.map((one) => one.bound))]},
        y: {label: null, ticks: 2},
        fy: {label: null},
        marks: [
          K.barY(shown, {x: "bound", y: "count", fy: "app", fill: "app", tip: true}),
          K.ruleY([0]),
        ],
      }));
    },
  };

  function drawAll() {
    const of = status();
    for (const figure of document.querySelectorAll("figure[data-plot]")) {
      figure.hidden = false;
      const plot = draw[figure.dataset.plot](figure, of);
      const place = figure.querySelector(".drawn");
      // The figure has a name, and the tables have the numbers.
      if (plot) plot.setAttribute("aria-hidden", "true");
      place.replaceChildren(...(plot ? [plot] : []));
      figure.hidden = !plot;
    }
  }

  // A live page.

  const KEEP_PLOTS = {
    callbacks: {beforeNodeMorphed: (node) => !(node.classList && node.classList.contains("drawn"))},
  };

  const ended = () => status().status !== "running";

  async function update() {
    const connection = document.getElementById("connection");
    try {
      const answer = await fetch("fragment", {cache: "no-store"});
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      const text = await answer.text();
      K.Idiomorph.morph(document.getElementById("run"), text, KEEP_PLOTS);
      document.title = document.getElementById("run").dataset.title;
      connection.textContent = "";
      drawAll();
    } catch (error) {
      const since = new Date().toLocaleTimeString();
      if (!connection.textContent) {
        connection.textContent = `No answer from the launcher since ${since}: the run has ended, or`
          + " the connection is lost. This page keeps trying. How a run ended is in its report, and"
          + " in k8s-parsl show.";
      }
    }
    if (!ended()) setTimeout(update, PERIOD_MS);
  }

  drawAll();
  let wait;
  addEventListener("resize", () => {
    clearTimeout(wait);
    wait = setTimeout(drawAll, 200);
  });
  if ("live" in document.body.dataset) setTimeout(update, PERIOD_MS);
})();
