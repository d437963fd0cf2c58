// `make demo`: one dashboard, live. The server of this page gives the dashboard and hands its queries on to Prometheus.
import { createRoot } from 'react-dom/client';
import { Dashboard, height, prepared, ready, theme } from './panels.jsx';

const REFRESH = 2000; // ms
const BAR = 44; // px
const [, uid] = location.pathname.match(/^\/d\/([\w-]+)/);
const language = document.documentElement.lang;
const SAYS = {
  zh: { live: (speed) => `演示：模拟的一天，${speed} 倍速`, lost: 'Prometheus 没有回答，正在重试', told: '已通知' },
  en: { live: (speed) => `Demo: a simulated day, ${speed} times as fast`, lost: 'no answer from Prometheus, trying again', told: 'told' },
}[language];

// ---- what Grafana asks ----

async function query(what, fields) {
  const answer = await fetch(`/prometheus/api/v1/${what}`, { method: 'POST', body: new URLSearchParams(fields) });
  const said = await answer.json();
  if (said.status !== 'success') throw new Error(`${said.error}: ${fields.query}`);
  return said.data;
}

const finite = (text) => (Number.isFinite(Number(text)) ? Number(text) : null);
const series = ({ __name__, ...labels }, points) => ({
  labels, times: points.map(([at]) => Math.round(at * 1000)), values: points.map(([, value]) => finite(value)),
});

async function answer(panel, target, { now, range, step }) {
  if (target.instant) {
    const { resultType, result } = await query('query', { query: target.expr, time: now });
    return resultType === 'scalar' ? [series({}, [result])] : result.map(({ metric, value }) => series(metric, [value]));
  }
  const every = panel.interval ?? step; // seconds
  const [start, end] = [now - range, now].map((at) => Math.floor(at / every) * every);
  const { result } = await query('query_range', { query: target.expr, start, end, step: every });
  return result.map(({ metric, values }) => ({ ...series(metric, values), step: every * 1000 }));
}

async function asked(setting, revision) {
  const now = Date.now() / 1000;
  const pairs = setting.board.panels.flatMap((panel) => (panel.targets ?? []).map(async (target) =>
    [`${panel.id}.${target.refId}`, await answer(panel, target, { now, ...setting })]));
  return prepared({
    board: setting.board, results: Object.fromEntries(await Promise.all(pairs)), revision,
    from: (now - setting.range) * 1000, to: now * 1000, width: document.documentElement.clientWidth,
  });
}

// ---- the page ----

const NAMES = { zh: '中文', en: 'English' };
const LEVELS = { firing: 'error', resolved: 'success' };

function Bar({ setting, told, lost }) {
  const quiet = { color: theme.colors.text.secondary };
  const links = setting.boards.map(({ uid: to, title }) =>
    <a key={to} href={`/d/${to}`} style={to === uid ? { fontWeight: 500 } : quiet}>{title}</a>);
  const others = Object.entries(setting.others).map(([name, to]) =>
    <a key={to} href={`/d/${to}`} style={quiet}>{NAMES[name]}</a>);
  const last = told.slice(-2).map(({ at, receiver, alert, status, number }) =>
    <span key={at + receiver + alert + status} style={{ color: theme.colors[LEVELS[status]].text }}>
      {`${receiver} ← ${alert}${number > 1 ? ` ×${number}` : ''} ${status}`}
    </span>);
  return <div style={{ display: 'flex', gap: 20, height: BAR, padding: '0 12px', alignItems: 'center', whiteSpace: 'nowrap', overflow: 'hidden' }}>
    <b>gridgov</b>{links}{others}
    <span style={quiet}>{SAYS.live(setting.speed)}</span>
    {last.length > 0 && <span style={{ ...quiet, marginLeft: 'auto' }}>{SAYS.told}:</span>}{last}
    {lost && <span style={{ color: theme.colors.error.text, marginLeft: 'auto' }}>{SAYS.lost}</span>}
  </div>;
}

function Page({ setting, look, told, lost }) {
  return <>
    <Bar setting={setting} told={told} lost={lost} />
    {look && <div style={{ position: 'relative', height: height(look) }}><Dashboard look={look} /></div>}
  </>;
}

const pause = () => new Promise((done) => setTimeout(done, REFRESH));

async function live() {
  await ready();
  const setting = await (await fetch(`/boards/${uid}`)).json();
  const root = createRoot(document.getElementById('root'));
  let look, told = [];
  document.title = setting.board.title;
  for (let revision = 1; ; revision += 1) {
    let lost = false;
    try {
      [look, told] = [await asked(setting, revision), await (await fetch('/told')).json()];
    } catch (error) {
      lost = true;
      console.warn(error);
    }
    root.render(<Page {...{ setting, look, told, lost }} />);
    await pause();
  }
}

live().catch((error) => console.error('live:', error.stack));
