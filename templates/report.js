// Draws the curves from the page's data, to the width of the screen, and shows values under the pointer.
'use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  // Further rows have the colours again, their lines dashed.
  const classes = (i) => `c${i % 8} d${Math.floor(i / 8) % 3}`;
  const margin = { left: 52, right: 10, top: 12, bottom: 38 };

  const svg = (name, attributes, parent, text) => {
    const node = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent?.append(node);
    return node;
  };
  const html = (name, properties, parent) => {
    const node = Object.assign(document.createElement(name), properties);
    parent?.append(node);
    return node;
  };

  // Round steps (1, 2, 5 times a power of ten) from low to high, about so many.
  const ticks = (low, high, about) => {
    const raw = (high - low) / about;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find((m) => m * power >= raw * 0.999) * power;
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
    return { found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  };
  const trimmed = (x, digits) => String(Number(x.toFixed(digits)));
  const amount = (x) => {
    const [unit, suffix] = [[1e9, ' G'], [1e6, ' M'], [1e3, ' k'], [1, '']].find(([u]) => Math.abs(x) >= u) ?? [1, ''];
    return trimmed(x / unit, 3) + suffix;
  };
  const figure = (y) => (Math.abs(y) < 1e4 ? y.toFixed(5) : y.toPrecision(4));
  const axes = {
    samples: { label: 'training samples', shown: amount },
    seconds: { label: 'since run_start', shown: (s) => (s >= 5400 ? trimmed(s / 3600, 2) + ' h' : s >= 180 ? trimmed(s / 60, 2) + ' min' : trimmed(s, 2) + ' s') },
  };
  // Ticks of time fall on whole minutes or hours where those are shown.
  const unit = (axis, high) => (axis === 'seconds' ? (high >= 5400 ? 3600 : high >= 180 ? 60 : 1) : 1);

  // Index of the x nearest to a value, xs ascending.
  const nearest = (xs, x) => {
    let [low, high] = [0, xs.length - 1];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) low = middle; else high = middle;
    }
    return Math.abs(xs[low] - x) <= Math.abs(xs[high] - x) ? low : high;
  };

  // Mean of each value and up to `reach` on both sides of it.
  const running = (ys, reach) => {
    const sums = ys.reduce((all, y) => (all.push(all[all.length - 1] + y), all), [0]);
    return ys.map((_, i) => {
      const [first, end] = [Math.max(0, i - reach), Math.min(ys.length, i + reach + 1)];
      return (sums[end] - sums[first]) / (end - first);
    });
  };

  class Chart {
    constructor(figure, group, state) {
      Object.assign(this, { figure, group, state, kind: figure.dataset.kind });
      this.caption = figure.querySelector('figcaption').textContent.trim();
      this.tip = html('div', { className: 'tip', hidden: true }, figure);
      figure.addEventListener('pointermove', (event) => this.point(event));
      figure.addEventListener('pointerdown', (event) => this.point(event));
      figure.addEventListener('pointerleave', () => this.leave());
    }

    series() {
      const found = [];
      this.group.rows.forEach((row, i) => row.runs.forEach((run) => {
        const curve = run[this.kind];
        const xs = curve[this.state.axis];
        if (this.state.hidden.has(i) || !xs.length || xs.length !== curve.y.length) return;
        const alone = this.group.rows.length === 1;
        const label = row.runs.length === 1 ? row.label : alone ? run.name : `${run.name}, ${row.label}`;
        found.push({ row: row.label, colour: classes(i), label, xs, ys: curve.y, many: row.runs.length > 3 });
      }));
      // Single steps are noisy: what is read off the loss is its running mean, over a fortieth of the axis.
      const right = Math.max(...found.map((s) => s.xs[s.xs.length - 1]));
      for (const s of this.kind === 'loss' ? found : []) {
        const reach = Math.floor((right / s.xs[s.xs.length - 1]) * (s.xs.length / 80)) || 0;
        Object.assign(s, { raw: s.ys, ys: running(s.ys, Math.min(reach, s.xs.length >> 2)) });
      }
      return found;
    }

    // A few curves leave room for the steps they are the mean of.
    noisy(series) {
      return this.kind === 'loss' && series.length <= 3;
    }

    // The loss of a few steps must not squeeze the rest: its highest and lowest hundredth may lie outside.
    range(series) {
      let ys = series.flatMap((s) => (this.noisy(series) ? s.raw : s.ys)).sort((a, b) => a - b);
      if (this.kind === 'loss') ys = ys.slice(Math.floor(ys.length / 100), ys.length - Math.floor(ys.length / 100));
      let [low, high] = [ys[0], ys[ys.length - 1]];
      if (this.kind === 'auc' && this.group.target !== null) [low, high] = [Math.min(low, this.group.target), Math.max(high, this.group.target)];
      const pad = (high - low || Math.abs(high) * 0.01 || 0.01) * 0.06;
      return [low - pad, high + pad];
    }

    draw(width = this.figure.clientWidth) {
      this.figure.querySelector('svg')?.remove();
      this.leave();
      const series = this.series();
      const height = width < 480 ? 240 : 280;
      const root = svg('svg', { viewBox: `0 0 ${width} ${height}`, height, role: 'img', 'aria-label': this.caption });
      this.figure.insertBefore(root, this.tip);
      if (!series.length) {
        svg('text', { x: width / 2, y: height / 2, 'text-anchor': 'middle' }, root, 'nothing to show');
        this.view = null;
        return;
      }
      const right = Math.max(...series.map((s) => s.xs[s.xs.length - 1])) || 1;
      const [low, high] = this.range(series);
      const box = { left: margin.left, right: width - margin.right, top: margin.top, bottom: height - margin.bottom };
      const x = (value) => box.left + (value / right) * (box.right - box.left);
      const y = (value) => box.bottom - ((value - low) / (high - low)) * (box.bottom - box.top);
      this.view = { series, right, box, x, y, root, low, high };
      this.frame(root, box, right, low, high, x, y);
      const clip = `clip-${this.state.id}-${this.kind}`;
      svg('rect', { x: box.left, y: box.top - 4, width: box.right - box.left + 4, height: box.bottom - box.top + 8 }, svg('clipPath', { id: clip }, root));
      const curves = svg('g', { 'clip-path': `url(#${clip})` }, root);
      const path = (xs, ys) => xs.map((value, i) => `${i ? 'L' : 'M'}${x(value).toFixed(1)} ${y(ys[i]).toFixed(1)}`).join('');
      if (this.noisy(series)) for (const s of series) svg('path', { d: path(s.xs, s.raw), class: `line raw ${s.colour}` }, curves);
      for (const s of series) {
        svg('path', { d: path(s.xs, s.ys), class: `line ${s.colour}${s.many ? ' many' : ''}` }, curves);
        if (this.kind === 'auc' && s.xs.length <= 30) s.xs.forEach((value, i) => svg('circle', { cx: x(value), cy: y(s.ys[i]), r: s.many ? 1.6 : 2.4, class: `dot ${s.colour}` }, curves));
      }
      this.marks = svg('g', {}, root);
    }

    frame(root, box, right, low, high, x, y) {
      const vertical = ticks(low, high, 5);
      for (const value of vertical.found) {
        svg('line', { x1: box.left, x2: box.right, y1: y(value), y2: y(value), class: 'grid' }, root);
        svg('text', { x: box.left - 8, y: y(value) + 4, 'text-anchor': 'end' }, root, Math.abs(value) < 1e6 ? value.toFixed(vertical.digits) : value.toPrecision(2));
      }
      const per = unit(this.state.axis, right);
      for (const value of ticks(0, right / per, box.right - box.left < 380 ? 4 : 6).found) {
        const at = x(value * per);
        const anchor = at > box.right - 20 ? 'end' : at < box.left + 10 ? 'start' : 'middle';
        svg('line', { x1: at, x2: at, y1: box.bottom, y2: box.bottom + 4, class: 'base' }, root);
        svg('text', { x: at, y: box.bottom + 17, 'text-anchor': anchor }, root, value === 0 ? '0' : axes[this.state.axis].shown(value * per));
      }
      svg('line', { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, class: 'base' }, root);
      svg('text', { x: box.right, y: box.bottom + 33, 'text-anchor': 'end' }, root, axes[this.state.axis].label);
      const target = this.group.target;
      if (this.kind === 'auc' && target !== null) {
        svg('line', { x1: box.left, x2: box.right, y1: y(target), y2: y(target), class: 'target' }, root);
        svg('text', { x: box.left + 4, y: y(target) - 5, class: 'target-text' }, root, `target ${trimmed(target, 5)}`);
      }
    }

    point(event) {
      if (!this.view) return;
      const { series, right, box, x, y, root, low, high } = this.view;
      const bounds = root.getBoundingClientRect();
      const [px, py] = [event.clientX - bounds.left, event.clientY - bounds.top];
      if (px < box.left - 8 || px > box.right + 8 || py < 0 || py > bounds.height) return this.leave();
      const at = ((Math.min(Math.max(px, box.left), box.right) - box.left) / (box.right - box.left)) * right;
      // A curve that has ended has no value there.
      const hits = series.filter((s) => at <= s.xs[s.xs.length - 1] + right * 0.02).map((s) => {
        const i = nearest(s.xs, at);
        return { s, x: s.xs[i], y: s.ys[i] };
      });
      if (!hits.length) return this.leave();
      hits.sort((a, b) => b.y - a.y);
      this.marks.replaceChildren();
      const closest = hits.reduce((a, b) => (Math.abs(a.x - at) <= Math.abs(b.x - at) ? a : b));
      svg('line', { x1: x(closest.x), x2: x(closest.x), y1: box.top, y2: box.bottom, class: 'cursor' }, this.marks);
      this.tip.replaceChildren(html('b', { textContent: axes[this.state.axis].shown(closest.x) }));
      for (const hit of hits) {
        if (hit.y >= low && hit.y <= high) svg('circle', { cx: x(hit.x), cy: y(hit.y), r: 3, class: `dot ${hit.s.colour}` }, this.marks);
      }
      for (const { colour, label, shown } of hits.length > 8 ? this.spans(hits) : hits.map((h) => ({ ...h.s, shown: figure(h.y) }))) {
        const row = html('div', {}, this.tip);
        const name = html('span', {}, row);
        html('i', { className: `swatch ${colour}` }, name);
        name.append(label);
        html('b', { textContent: shown }, row);
      }
      this.tip.hidden = false;
      const [room, wide] = [this.figure.clientWidth, this.tip.offsetWidth];
      const beside = x(closest.x) + 14 + wide <= room ? x(closest.x) + 14 : x(closest.x) - 14 - wide;
      this.tip.style.left = `${Math.max(0, Math.min(beside, room - wide))}px`;
      this.tip.style.top = `${bounds.top - this.figure.getBoundingClientRect().top + 8}px`;
    }

    // From the least to the greatest value of each row's runs, where single ones would be too many.
    spans(hits) {
      const rows = new Map();
      for (const { s, y } of hits) rows.set(s.row, { colour: s.colour, ys: [...(rows.get(s.row)?.ys ?? []), y] });
      return [...rows].slice(0, 12).map(([row, { colour, ys }]) => ({
        colour,
        label: `${row} (${ys.length})`,
        shown: `${figure(Math.min(...ys))} to ${figure(Math.max(...ys))}`,
      }));
    }

    leave() {
      this.tip.hidden = true;
      this.marks?.replaceChildren();
    }
  }

  const charts = [];
  document.querySelectorAll('section.group').forEach((section) => {
    const group = data.groups[Number(section.dataset.group)];
    const state = { id: section.dataset.group, axis: 'samples', hidden: new Set() };
    const own = [...section.querySelectorAll('figure.chart')].map((figure) => new Chart(figure, group, state));
    if (!own.length) return;
    charts.push(...own);
    const redraw = () => own.forEach((chart) => chart.draw());
    const legend = section.querySelector('.legend');
    group.rows.forEach((row, i) => {
      if (!row.runs.some((run) => run.auc.y.length || run.loss.y.length)) return;
      const button = html('button', { type: 'button' }, legend);
      button.setAttribute('aria-pressed', 'true');
      html('i', { className: `swatch ${classes(i)}` }, button);
      button.append(row.label);
      button.addEventListener('click', () => {
        if (!state.hidden.delete(i)) state.hidden.add(i);
        button.setAttribute('aria-pressed', String(!state.hidden.has(i)));
        redraw();
      });
    });
    section.querySelectorAll('.axis button').forEach((button, _, all) => button.addEventListener('click', () => {
      state.axis = button.dataset.axis;
      all.forEach((other) => other.setAttribute('aria-pressed', String(other === button)));
      redraw();
    }));
    // Without numbers of samples time is all there is.
    const has = (axis) => group.rows.some((row) => row.runs.some((run) => run.auc[axis].length || run.loss[axis].length));
    if (!has('samples')) {
      section.querySelector('.axis button[data-axis="seconds"]').click();
      section.querySelector('.axis').hidden = true;
    }
  });

  // A table that is wider than the screen says so, and how many of its columns are to come.
  const tables = () => document.querySelectorAll('.scroll').forEach((box) => {
    const say = () => {
      const right = box.getBoundingClientRect().right;
      const hidden = [...box.querySelectorAll('thead th')].filter((head) => head.getBoundingClientRect().right > right + 2).length;
      let note = box.previousElementSibling;
      if (!note?.classList.contains('more')) {
        if (!hidden) return;
        note = html('p', { className: 'more' });
        box.before(note);
      }
      note.textContent = hidden ? `${hidden} more column${hidden > 1 ? 's' : ''}: scroll to the right` : '\u00a0';
      note.hidden = box.scrollWidth <= box.clientWidth + 1;
    };
    if (!box.dataset.told) box.addEventListener('scroll', say, { passive: true });
    box.dataset.told = 'yes';
    say();
  });

  const drawAll = () => {
    charts.forEach((chart) => chart.draw());
    tables();
  };
  drawAll();
  document.querySelectorAll('details').forEach((details) => details.addEventListener('toggle', tables));
  let width = window.innerWidth;
  window.addEventListener('resize', () => {
    if (window.innerWidth !== width) drawAll();
    width = window.innerWidth;
  });
  // On paper all runs are listed, and curves fill the page or half of it.
  let closed = [];
  window.addEventListener('beforeprint', () => {
    closed = [...document.querySelectorAll('section.group details:not([open])')];
    closed.forEach((details) => { details.open = true; });
    charts.forEach((chart) => chart.draw(chart.figure.parentNode.childElementCount > 1 ? 340 : 700));
  });
  window.addEventListener('afterprint', () => {
    closed.forEach((details) => { details.open = false; });
    drawAll();
  });
})();
