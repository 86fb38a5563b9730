// The inbox: what the simulated provider "delivered", newest first.
//
// It asks once a second while somebody looks. Rows are kept from one answer to the next, so that a focus on
// a button, or a selection in a text, outlives the poll. Data goes into the page as text, never as markup.

const STRINGS = {
  en: {
    'title': 'Inbox',
    'lead': 'Messages that the simulated provider “delivered”. No phone was bothered.',
    'filter': 'Filter by phone',
    'live': 'Live',
    'paused': 'Paused while the tab is hidden',
    'lost': 'The server does not answer; trying again',
    'closed': 'The developer’s door is closed: start the server with “countersign dev”',
    'arrived': 'New message for {phone}',
    'copy': 'Copy code',
    'copy.of': 'Copy code {code}',
    'copied': 'Copied ✓',
    'copy.failed': 'Selected: press Ctrl C',
    'by': 'by {provider}',
    'empty': 'No messages yet',
    'empty.how': 'Ask for a code on the demo page, or from your own application. Whatever the simulated provider delivers appears here within a second.',
    'empty.demo': 'Open the demo page',
    'no-match': 'No message for this number',
    'no-match.how': 'There are messages for other numbers. Any part of a number will do as a filter.',
    'clear': 'Clear the filter',
    'demo': 'Demo page',
  },
  zh: {
    'title': '收件箱',
    'lead': '这里是模拟通道“送达”的短信，没有打扰任何真实的手机。',
    'filter': '按手机号筛选',
    'live': '实时更新',
    'paused': '标签页隐藏时暂停',
    'lost': '服务器没有响应，正在重试',
    'closed': '开发者入口未开启：请用 “countersign dev” 启动服务',
    'arrived': '{phone} 收到新短信',
    'copy': '复制验证码',
    'copy.of': '复制验证码 {code}',
    'copied': '已复制 ✓',
    'copy.failed': '已选中，请按 Ctrl C',
    'by': '经由 {provider}',
    'empty': '还没有短信',
    'empty.how': '请在演示页或你自己的应用里请求一个验证码。模拟通道送达的每条短信，一秒之内就会出现在这里。',
    'empty.demo': '打开演示页',
    'no-match': '这个号码没有短信',
    'no-match.how': '别的号码有短信。输入号码的任意一段即可筛选。',
    'clear': '清除筛选',
    'demo': '演示页',
  },
};

const LOCALES = { en: 'en', zh: 'zh-CN' };
const LANGUAGE_KEY = 'countersign.language'; // the demo page's: one choice for both
const POLL_MS = 1000;
const POLL_MS_AFTER_FAILURE = 3000;
const COPIED_MS = 2000;

const state = {
  language: firstLanguage(),
  /** Newest first, as answered; null before the first answer. */
  messages: null,
  /** 'live', 'paused', 'lost' or 'closed'. */
  pulse: 'live',
};

/** The row of each message, by its key. */
const rows = new Map();

const element = (id) => document.getElementById(id);

// ---- words ----------------------------------------------------------------------------------

function firstLanguage() {
  let kept = null;
  try {
    kept = localStorage.getItem(LANGUAGE_KEY);
  } catch {
    // Storage may be forbidden; the browser's language is a good answer then.
  }
  if (kept in STRINGS) return kept;
  return /^zh\b/i.test(navigator.language) ? 'zh' : 'en';
}

function say(line, values = {}) {
  return STRINGS[state.language][line].replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

function changeLanguage() {
  state.language = state.language === 'zh' ? 'en' : 'zh';
  try {
    localStorage.setItem(LANGUAGE_KEY, state.language);
  } catch {
    // Then it holds for this visit only.
  }
  draw();
}

/** "12 seconds ago": the largest unit that is not zero. */
function ago(at) {
  const seconds = Math.max(0, Math.round((Date.now() - at) / 1000));
  const format = new Intl.RelativeTimeFormat(LOCALES[state.language], { numeric: 'auto' });
  if (seconds < 60) return format.format(-seconds, 'second');
  if (seconds < 3600) return format.format(-Math.floor(seconds / 60), 'minute');
  if (seconds < 86_400) return format.format(-Math.floor(seconds / 3600), 'hour');
  return format.format(-Math.floor(seconds / 86_400), 'day');
}

// ---- asking ---------------------------------------------------------------------------------

let nextPoll = null;
let polling = false;

async function poll() {
  clearTimeout(nextPoll);
  if (polling || document.hidden) return;
  polling = true;
  const pulse = await ask();
  polling = false;
  // The tab may have been hidden while the answer was on its way.
  state.pulse = document.hidden ? 'paused' : pulse;
  draw();
  if (!document.hidden) nextPoll = setTimeout(poll, pulse === 'live' ? POLL_MS : POLL_MS_AFTER_FAILURE);
}

async function ask() {
  try {
    // Always all of them: the filter takes any part of a number, and the answer to it should be immediate.
    const response = await fetch('/dev/messages', { cache: 'no-store', signal: AbortSignal.timeout(10_000) });
    if (response.status === 404) return 'closed';
    if (!response.ok) return 'lost';
    receive(await response.json());
    return 'live';
  } catch {
    return 'lost';
  }
}

function receive(messages) {
  const known = state.messages !== null;
  state.messages = withKeys(messages);
  const fresh = known ? state.messages.filter(({ key, message }) => !rows.has(key) && passes(message)) : [];
  for (const { key, message } of state.messages) {
    if (!rows.has(key)) rows.set(key, newRow(message, known));
  }
  if (fresh.length > 0) put('status', say('arrived', { phone: fresh[0].message.phone }));
}

/** Two messages may be alike in everything, so the key counts the likes; from the oldest, for those keep their places. */
function withKeys(messages) {
  const seen = new Map();
  const keyed = messages.toReversed().map((message) => {
    const likeness = JSON.stringify([message.at, message.phone, message.text]);
    const count = (seen.get(likeness) ?? 0) + 1;
    seen.set(likeness, count);
    return { key: `${likeness} ${count}`, message };
  });
  return keyed.toReversed();
}

function watchVisibility() {
  if (!document.hidden) return poll();
  clearTimeout(nextPoll);
  state.pulse = 'paused';
  draw();
}

// ---- filtering ------------------------------------------------------------------------------

/** Digits only, full-width ones too: a number is typed in many ways. */
const digits = (text) => text.normalize('NFKC').replace(/\D/g, '');

function passes(message) {
  const wanted = digits(element('filter').value);
  return wanted === '' || digits(message.phone).includes(wanted);
}

/** The filter stands in the address, so that a link can carry it. */
function filterChanged() {
  const url = new URL(location.href);
  if (element('filter').value) url.searchParams.set('phone', element('filter').value);
  else url.searchParams.delete('phone');
  history.replaceState(null, '', url);
  draw();
}

function clearFilter() {
  element('filter').value = '';
  filterChanged();
  element('filter').focus();
}

// ---- drawing --------------------------------------------------------------------------------

function draw() {
  drawWords();
  drawPulse();
  if (state.messages === null) return;
  const shown = state.messages.filter(({ message }) => passes(message));
  drawRows(shown);
  element('messages').hidden = shown.length === 0;
  element('empty').hidden = state.messages.length > 0;
  element('no-match').hidden = state.messages.length === 0 || shown.length > 0;
}

/** Sets text only when it differs: a live region would say it again. */
function put(target, text) {
  const node = typeof target === 'string' ? element(target) : target;
  if (node.textContent !== text) node.textContent = text;
}

function drawWords() {
  const other = state.language === 'zh' ? 'en' : 'zh';
  document.documentElement.lang = LOCALES[state.language];
  document.title = `${say('title')} · 口令 Countersign`;
  put('language', other === 'zh' ? '中文' : 'English');
  element('language').lang = LOCALES[other];
  for (const node of document.querySelectorAll('[data-text]')) put(node, say(node.dataset.text));
  for (const node of document.querySelectorAll('[data-label]')) node.setAttribute('aria-label', say(node.dataset.label));
}

function drawPulse() {
  const broken = state.pulse === 'lost' || state.pulse === 'closed';
  put('pulse', say(state.pulse));
  element('pulse').dataset.state = broken ? 'lost' : state.pulse;
  put('error', broken ? say(state.pulse) : '');
}

/** Rows that stay are not touched: moving one would take the focus from it. */
function drawRows(shown) {
  const list = element('messages');
  const wanted = new Set(shown.map(({ key }) => key));
  const all = new Set(state.messages.map(({ key }) => key));
  for (const [key, row] of rows) {
    if (!wanted.has(key)) row.node.remove();
    if (!all.has(key)) rows.delete(key);
  }
  shown.forEach(({ key }, place) => {
    const row = rows.get(key);
    if (list.children[place] !== row.node) list.insertBefore(row.node, list.children[place] ?? null);
    drawRow(row);
  });
}

function make(tag, className, text = '') {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

function newRow(message, fresh) {
  const node = make('li', fresh ? 'message fresh' : 'message');
  const at = Date.parse(message.at);

  const head = make('div', 'row');
  const time = make('time', 'hint');
  time.dateTime = message.at;
  time.title = Number.isNaN(at) ? message.at : new Date(at).toLocaleString();
  head.append(make('span', 'who', message.phone), time);

  const foot = make('div', 'foot-row');
  const value = make('code', 'value', message.code ?? '');
  const copy = make('button', 'quiet copy');
  copy.type = 'button';
  const provider = make('span', 'hint provider');
  if (message.code) foot.append(value, copy);
  foot.append(provider);

  const row = { node, message, at, time, value, copy, provider, copied: null };
  copy.addEventListener('click', () => copyCode(row));
  // Else it would play again whenever a filter brings the row back.
  node.addEventListener('animationend', () => node.classList.remove('fresh'));
  node.append(head, make('p', 'text', message.text), foot);
  return row;
}

function drawRow({ message, at, time, copy, provider, copied }) {
  put(time, Number.isNaN(at) ? String(message.at) : ago(at));
  put(provider, message.provider ? say('by', { provider: message.provider }) : '');
  put(copy, say(copied ?? 'copy'));
  copy.setAttribute('aria-label', copied ? say(copied) : say('copy.of', { code: message.code }));
}

// ---- copying --------------------------------------------------------------------------------

async function copyCode(row) {
  try {
    await navigator.clipboard.writeText(row.message.code);
    row.copied = 'copied';
  } catch {
    // Forbidden, or no TLS: the code is selected, and the person's own keys do the rest.
    getSelection().selectAllChildren(row.value);
    row.copied = 'copy.failed';
  }
  put('status', say(row.copied));
  drawRow(row);
  setTimeout(() => {
    row.copied = null;
    drawRow(row);
  }, COPIED_MS);
}

// ---- the beginning --------------------------------------------------------------------------

function begin() {
  element('filter').value = new URL(location.href).searchParams.get('phone') ?? '';
  element('language').addEventListener('click', changeLanguage);
  element('filter').addEventListener('input', filterChanged);
  element('form-filter').addEventListener('submit', (event) => event.preventDefault());
  element('clear').addEventListener('click', clearFilter);
  document.addEventListener('visibilitychange', watchVisibility);
  draw();
  poll();
}

begin();
