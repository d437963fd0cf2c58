// Draws one dashboard with Grafana's own components, from a `look`:
// {board: the dashboard's JSON, results: {"panel.ref": [{labels, times, values}]}, from, to (ms), width (px)}.
import {
  applyFieldOverrides, applyNullInsertThreshold, cacheFieldDisplayNames, createDataFrame, createTheme,
  FieldConfigOptionsRegistry, FieldType, getDisplayValueAlignmentFactors, getFieldDisplayValues,
  standardFieldConfigEditorRegistry, standardTransformers, standardTransformersRegistry, transformDataFrame,
} from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, ThemeContext, TimeSeries, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { Component } from 'react';
import { lastValueFrom } from 'rxjs';

export const theme = createTheme({ colors: { mode: 'dark' } });
const timeZone = 'browser';
const asIs = (text) => String(text);

// ---- what Grafana itself registers at its start ----

const STANDARD = ['unit', 'min', 'max', 'decimals', 'displayName', 'noValue', 'color', 'thresholds', 'mappings', 'links'];
const CUSTOM = [
  'drawStyle', 'lineStyle', 'lineWidth', 'fillOpacity', 'showPoints', 'spanNulls', 'stacking', 'barAlignment',
  'thresholdsStyle', 'axisSoftMin', 'cellOptions', 'align', 'width', 'minWidth', 'inspect',
];
const option = (path, isCustom) => ({
  id: isCustom ? `custom.${path}` : path, path, isCustom, name: path, settings: {},
  editor: () => null, override: () => null, process: (value) => value, shouldApply: () => true,
});
standardFieldConfigEditorRegistry.setInit(() => STANDARD.map((path) => option(path)));
const fieldConfigRegistry = new FieldConfigOptionsRegistry(() => [
  ...STANDARD.map((path) => option(path)), ...CUSTOM.map((path) => option(path, true)),
]);
standardTransformersRegistry.setInit(() =>
  [...new Map(Object.values(standardTransformers).map((one) => [one.id, one])).values()].map((one) => ({
    id: one.id, name: one.name, description: '', editor: null, transformation: async () => one,
  })));

// ---- data frames, as Grafana's Prometheus data source makes them ----

const label = (target, labels) => target.legendFormat === '__auto'
  ? Object.values(labels).join(' ') || 'Value'
  : target.legendFormat.replace(/\{\{(\w+)\}\}/g, (_, name) => labels[name] ?? '');

function series(target, { labels, times, values, step }) {
  const name = label(target, labels);
  return createDataFrame({
    refId: target.refId, name, fields: [
      { name: 'Time', type: FieldType.time, values: times, config: step ? { interval: step } : {} },
      { name: 'Value', type: FieldType.number, labels, values, config: { displayNameFromDS: name } },
    ],
  });
}

function rows(target, found, column, to) {
  const names = [...new Set(found.flatMap(({ labels }) => Object.keys(labels)))].sort();
  return createDataFrame({
    refId: target.refId, fields: [
      { name: 'Time', type: FieldType.time, values: found.map(() => to) },
      ...names.map((name) => ({ name, type: FieldType.string, values: found.map(({ labels }) => labels[name]) })),
      { name: column, type: FieldType.number, values: found.map(({ values }) => values[0]) },
    ],
  });
}

async function data(panel, { results, to }) {
  const many = panel.targets.length > 1;
  let frames = panel.targets.flatMap((target) => {
    const found = results[`${panel.id}.${target.refId}`];
    if (target.format !== 'table') return found.map((one) => series(target, one));
    return found.length ? [rows(target, found, many ? `Value #${target.refId}` : 'Value', to)] : [];
  });
  frames = await lastValueFrom(transformDataFrame(panel.transformations ?? [], frames, { interpolate: asIs }));
  const shown = applyFieldOverrides({
    data: frames, fieldConfig: panel.fieldConfig, fieldConfigRegistry, replaceVariables: asIs, theme, timeZone,
  });
  cacheFieldDisplayNames(shown);
  return shown;
}

// ---- one component per type of panel ----

const figures = (panel, frames) => getFieldDisplayValues({
  fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions, replaceVariables: asIs,
  data: frames, theme, timeZone,
});

function Repeated({ panel, frames, size, orientation, children }) {
  return <VizRepeater
    source={frames} getValues={() => figures(panel, frames)} renderCounter={0} itemSpacing={4} minVizHeight={16}
    getAlignmentFactors={(values) => getDisplayValueAlignmentFactors(values.map(({ display }) => ({ display })))}
    orientation={orientation} {...size} renderValue={children} />;
}

function Stat({ panel, frames, size }) {
  const { orientation, colorMode, graphMode, justifyMode, textMode, wideLayout } = panel.options;
  return <Repeated panel={panel} frames={frames} size={size} orientation={orientation}>
    {({ value, width, height, count }) => <BigValue
      value={value.display} {...{ width, height, count, theme, colorMode, graphMode, justifyMode, textMode, wideLayout }} />}
  </Repeated>;
}

function Ranking({ panel, frames, size }) {
  const { orientation, displayMode, valueMode, showUnfilled, namePlacement } = panel.options;
  return <Repeated panel={panel} frames={frames} size={size} orientation={orientation}>
    {({ value, width, height, alignmentFactors }) => <BarGauge
      value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)}
      itemSpacing={4} lcdCellWidth={12} alignmentFactors={alignmentFactors}
      {...{ width, height, theme, orientation, displayMode, valueDisplayMode: valueMode, showUnfilled, namePlacement }} />}
  </Repeated>;
}

// Grafana keeps its gauge in the panel, not in @grafana/ui: this dial is ours, its value and colours are Grafana's.
function Dial({ panel, frames, size }) {
  const [{ display, field }] = figures(panel, frames);
  const { min = 0, max = 100, thresholds } = field;
  const radius = Math.min(size.width / 2, size.height / 1.46) - 4;
  const at = (value) => Math.PI * (-1.15 + 1.3 * Math.min(1, Math.max(0, (value - min) / (max - min))));
  const arc = (low, high, r) => {
    const [x0, y0, x1, y1] = [low, high].flatMap((value) => [Math.cos(at(value)) * r, Math.sin(at(value)) * r]);
    return `M ${x0} ${y0} A ${r} ${r} 0 ${at(high) - at(low) > Math.PI ? 1 : 0} 1 ${x1} ${y1}`;
  };
  const stroke = (path, color, thick) => <path d={path} fill="none" stroke={color} strokeWidth={thick} key={path} />;
  const marks = thresholds.steps.map((step, n) =>
    stroke(arc(Math.max(min, step.value), thresholds.steps[n + 1]?.value ?? max, radius),
      theme.visualization.getColorByName(step.color), 4));
  return <svg {...size} viewBox={`${-size.width / 2} ${-radius - 6} ${size.width} ${size.height}`}>
    {marks}
    {stroke(arc(min, max, radius - 14), theme.colors.background.secondary, 18)}
    {stroke(arc(min, display.numeric, radius - 14), display.color, 18)}
    <text y={radius / 6} textAnchor="middle" fontSize={radius / 2.8} fontWeight={500} fill={display.color}>
      {`${display.prefix ?? ''}${display.text}${display.suffix ?? ''}`}
    </text>
  </svg>;
}

function Lines({ panel, frames, size, look: { from, to, revision } }) {
  const timeRange = { from: new Date(from), to: new Date(to), raw: {} };
  const gaps = frames.map((frame) =>
    applyNullInsertThreshold({ frame, refFieldPseudoMin: from, refFieldPseudoMax: to }));
  return <TimeSeries
    frames={gaps} structureRev={revision} timeRange={timeRange} timeZone={timeZone} {...size} legend={panel.options.legend}
    options={panel.options} tweakScale={(one) => one} tweakAxis={(one) => one}>{() => null}</TimeSeries>;
}

function Table({ panel, frames, size, look: { revision } }) {
  const { cellHeight, showHeader } = panel.options;
  return <TableNG data={frames[0]} structureRev={revision} {...size} cellHeight={cellHeight} noHeader={!showHeader} />;
}

const BODIES = { stat: Stat, gauge: Dial, bargauge: Ranking, timeseries: Lines, table: Table };

function Body({ panel, frames, size, look }) {
  if (!frames.some((frame) => frame.length)) {
    const empty = { display: 'grid', placeItems: 'center', color: theme.colors.text.secondary, fontSize: 18, ...size };
    return <div style={empty}>{panel.fieldConfig.defaults.noValue}</div>;
  }
  const Kind = BODIES[panel.type];
  return <Kind panel={panel} frames={frames} size={size} look={look} />;
}

// ---- the dashboard ----

const [CELL, GAP] = [30, 8]; // px: Grafana's unit of height, and what lies between panels

class Loud extends Component {
  state = { failed: false };
  static getDerivedStateFromError = () => ({ failed: true });
  componentDidCatch(error) { console.error('look:', this.props.name, error.stack); }
  render() { return this.state.failed ? null : this.props.children; }
}

function place({ x, y, w, h }, width) {
  const column = (width - GAP) / 24;
  return {
    position: 'absolute', left: GAP + x * column, top: GAP + y * (CELL + GAP),
    width: w * column - GAP, height: h * (CELL + GAP) - GAP,
  };
}

function Panel({ panel, frames, look }) {
  const where = place(panel.gridPos, look.width);
  if (panel.type === 'row') return <h5 style={{ ...where, margin: 0, lineHeight: `${CELL}px` }}>{panel.title}</h5>;
  return <div style={where}>
    <PanelChrome title={panel.title} description={panel.description} width={where.width} height={where.height}>
      {(width, height) => <Loud name={panel.title}><Body panel={panel} frames={frames} size={{ width, height }} look={look} /></Loud>}
    </PanelChrome>
  </div>;
}

/** Wait for what is drawn with; once, before the first drawing. */
export async function ready() {
  await Promise.all(['400 12px Inter', '500 12px Inter'].map((font) => document.fonts.load(font)));
  document.body.style.background = theme.colors.background.canvas;
}

/** The look with each panel's frames: [panel, frames] pairs. `revision` must change when series have come or gone. */
export async function prepared(look) {
  const pairs = look.board.panels.map(async (panel) => [panel, panel.targets ? await data(panel, look) : []]);
  return { revision: 1, ...look, drawn: await Promise.all(pairs) };
}

export const height = ({ board }) => GAP + Math.max(...board.panels.map(({ gridPos: { y, h } }) => (y + h) * (CELL + GAP)));

export function Dashboard({ look }) {
  return <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <Loud name="dashboard">
      {look.drawn.map(([panel, frames]) => <Panel key={panel.id} panel={panel} frames={frames} look={look} />)}
    </Loud>
  </ThemeContext.Provider>;
}
