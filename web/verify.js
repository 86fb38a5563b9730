// The demo page: a picture, a code by text message, a signed proof.
//
// The page keeps one `state` and draws from it, so that a change of language, a tick of the clock and an
// answer of the server all end in the same few functions. What the server refuses is a `Refusal`; one
// function decides what is said about it and where the person goes next.

const STRINGS = {
  en: {
    'title': 'Prove that a phone is yours',
    'lead': 'A picture, a code by text message, a signed proof.',
    'steps': 'Steps',
    'step.phone': 'Phone',
    'step.code': 'Code',
    'step.proof': 'Proof',

    'phone': 'Phone number',
    'phone.hint': 'With or without +86.',
    'answer': 'Picture',
    'answer.hint': 'Capitals and small letters are the same.',
    'picture.new': 'Another picture',
    'listen': 'Listen',
    'listen.hint': 'Five digits are spoken. Type them in place of the characters in the picture.',
    'listened': 'Type the five digits that you heard.',
    'picture.alt': 'Challenge picture: a line runs through some of its characters. The sentence below says which to type.',
    'picture.failed': 'The picture did not load.',
    'picture.replaced': 'The picture had expired: here is another.',
    'send': 'Send code',
    'sending': 'Sending…',
    'work': 'Send without the picture',
    'work.hint': 'Your device works for about a second instead.',
    'working': 'Your device is working…',

    'code': 'Code',
    'code.sent': 'The code is on its way to {phone}.',
    'code.resent': 'Another message is on its way.',
    'expires': 'Valid for {time}',
    'expires.over': 'No longer valid',
    'checks-left': 'Tries left: {count}',
    'check': 'Check',
    'checking': 'Checking…',
    'resend': 'Send again',
    'resend.wait': 'in {time}',
    'resend.left': 'Messages left: {count}',
    'resend.none': 'No messages left',
    'start-over': 'Start over',

    'proved': '{phone} is proved',
    'claims': 'Claims',
    'header': 'Header',
    'token': 'The whole token',
    'token.life': 'Valid until {time}.',
    'token.strange': 'The token is not a JWT that this page can read.',
    'signature.checking': 'Checking the signature…',
    'signature.valid': 'Signature valid ✓ — Ed25519, checked in this browser against the published keys.',
    'signature.invalid': 'Signature NOT valid ✗ — do not trust this token.',
    'signature.no-key': 'No published key has this token’s key id: do not trust it.',
    'signature.unsupported': 'This browser cannot check Ed25519 signatures. Your server can: the keys are at /.well-known/jwks.json.',
    'signature.unreachable': 'The published keys could not be fetched, so the signature was not checked.',

    'inbox.hint': 'A demonstration: the simulated provider keeps its messages, so the code is in',
    'inbox.link': 'the inbox',
    'new-tab': ' (opens a new tab)',
    'health': 'Health',

    'missing.phone': 'Type your phone number.',
    'missing.answer': 'Type the characters from the picture, or the digits that you heard.',
    'missing.code': 'Type the code from the message.',

    'problem.invalid-request': 'The server did not understand the request.',
    'problem.invalid-phone': 'This does not look like a phone number. Please check it.',
    'problem.country-not-allowed': 'Numbers of this country are not accepted here.',
    'problem.challenge-required': 'Please solve the picture first.',
    'problem.challenge-wrong': 'That was not the answer. Here is another picture, with other digits.',
    'problem.challenge-expired': 'The picture had expired or was already answered. Here is another.',
    'problem.throttled': 'Too many requests for now.',
    'problem.locked': 'Too many wrong codes: this number is locked for now.',
    'problem.verification-not-found': 'This code has expired, was already used, or was replaced by a newer one. Please start over.',
    'problem.wrong-code': 'That code is not right.',
    'problem.wrong-code.last': 'That code is not right, and it was the last try. Please start over.',
    'problem.idempotency-mismatch': 'This request was mixed up with an earlier one. Please try again.',
    'problem.idempotency-in-flight': 'The first request is still being worked on. Please try again in a moment.',
    'problem.unauthorized': 'This page’s key was not accepted. Reload the page; if that does not help, the key or its allowed origins need a look.',
    'problem.unavailable': 'The service cannot answer just now. Please try again in a moment.',
    'problem.offline': 'The server could not be reached. Please try again.',
    'problem.no-sound': 'This browser did not play the digits. Please use the picture, or send without it.',
    'problem.no-work': 'This browser computes on pages with TLS only. Please use the picture.',
    'problem.unknown': 'Something went wrong.',
    'problem.demo-off': 'The demo needs the developer’s door: start the server with “countersign dev”.',
    'problem.expired': 'The code has expired. Please start over.',
    'retry': 'Try again at {time}.',
    'retry.now': 'You can try again now.',
  },
  zh: {
    'title': '证明手机号是你的',
    'lead': '看一张图，收一条短信，得到一份签名凭证。',
    'steps': '步骤',
    'step.phone': '手机号',
    'step.code': '验证码',
    'step.proof': '凭证',

    'phone': '手机号',
    'phone.hint': '带不带 +86 都可以。',
    'answer': '图形验证',
    'answer.hint': '不区分大小写。',
    'work': '不看图片，直接发送',
    'work.hint': '改由您的设备计算约一秒钟。',
    'working': '设备正在计算…',
    'picture.new': '换一张',
    'listen': '听数字',
    'listen.hint': '会念出五个数字。请输入听到的数字，代替图片中的字符。',
    'listened': '请输入听到的五个数字。',
    'picture.alt': '图形验证图片：一条线穿过其中几个字符。下面的说明告诉您输入哪些。',
    'picture.failed': '图片没有加载出来。',
    'picture.replaced': '图片已过期，换了一张新的。',
    'send': '发送验证码',
    'sending': '正在发送…',

    'code': '短信验证码',
    'code.sent': '验证码正在发往 {phone}。',
    'code.resent': '新的短信已在路上。',
    'expires': '{time} 内有效',
    'expires.over': '已失效',
    'checks-left': '还可尝试 {count} 次',
    'check': '验证',
    'checking': '正在验证…',
    'resend': '重新发送',
    'resend.wait': '{time} 后可重发',
    'resend.left': '还可发送 {count} 条',
    'resend.none': '不能再发送了',
    'start-over': '重新开始',

    'proved': '{phone} 验证通过',
    'claims': '声明（claims）',
    'header': '头部（header）',
    'token': '完整的令牌',
    'token.life': '有效期至 {time}。',
    'token.strange': '这个令牌不是本页能读懂的 JWT。',
    'signature.checking': '正在核对签名…',
    'signature.valid': '签名有效 ✓ — 已在本浏览器中用公布的公钥核对（Ed25519）。',
    'signature.invalid': '签名无效 ✗ — 请勿信任这个令牌。',
    'signature.no-key': '公布的公钥中没有这个令牌所用的密钥，请勿信任。',
    'signature.unsupported': '本浏览器无法核对 Ed25519 签名。你的服务器可以：公钥在 /.well-known/jwks.json。',
    'signature.unreachable': '没能取到公布的公钥，签名未核对。',

    'inbox.hint': '这是演示：模拟通道不会真的发出短信，验证码在',
    'inbox.link': '收件箱',
    'new-tab': '（在新标签页打开）',
    'health': '健康状态',

    'missing.phone': '请输入手机号。',
    'missing.answer': '请输入图片中的字符，或听到的数字。',
    'missing.code': '请输入短信中的验证码。',

    'problem.invalid-request': '服务器没有看懂这个请求。',
    'problem.invalid-phone': '这不像一个手机号，请检查一下。',
    'problem.country-not-allowed': '这里暂不支持该国家或地区的号码。',
    'problem.challenge-required': '请先完成图形验证。',
    'problem.challenge-wrong': '图形验证不对，已换了一张，数字也换了。',
    'problem.challenge-expired': '图片已过期或已用过，已换了一张。',
    'problem.throttled': '操作太频繁了。',
    'problem.locked': '错误次数过多，该号码已暂时锁定。',
    'problem.verification-not-found': '验证码已过期、已使用，或已被新的验证码取代。请重新开始。',
    'problem.wrong-code': '验证码不对。',
    'problem.wrong-code.last': '验证码不对，次数也已用完。请重新开始。',
    'problem.idempotency-mismatch': '这个请求和之前的混淆了，请再试一次。',
    'problem.idempotency-in-flight': '上一个请求还在处理，请稍后再试。',
    'problem.unauthorized': '本页的密钥未被接受。请刷新页面；若仍不行，请检查密钥及其允许的来源。',
    'problem.unavailable': '服务暂时无法响应，请稍后再试。',
    'problem.offline': '连接不上服务器，请再试一次。',
    'problem.no-sound': '浏览器没能播放数字。请改用图片，或不看图片直接发送。',
    'problem.no-work': '这个浏览器只能在 TLS 页面上计算，请改用图片。',
    'problem.unknown': '出了点问题。',
    'problem.demo-off': '演示页需要开发者入口：请用 “countersign dev” 启动服务。',
    'problem.expired': '验证码已过期，请重新开始。',
    'retry': '请在 {time} 之后再试。',
    'retry.now': '现在可以再试了。',
  },
};

/** What the page tells the document and the API about each language. */
const LOCALES = { en: 'en', zh: 'zh-CN' };

/** Refusals that are about what stands in a field. */
const WRONG_FIELD = {
  'invalid-phone': 'phone',
  'country-not-allowed': 'phone',
  'challenge-required': 'answer',
  'challenge-wrong': 'answer',
  'challenge-expired': 'answer',
  'no-work': 'answer',
  'wrong-code': 'code',
};

/** Refusals of a check or a resend after which nothing but starting over helps. */
const ENDINGS = new Set(['verification-not-found', 'locked', 'challenge-required']);

/** Longer than the slowest honest answer, shorter than a person's patience. */
const ANSWER_MS_MAX = 15_000;

const LANGUAGE_KEY = 'countersign.language';

const state = {
  language: firstLanguage(),
  step: 'phone',
  /** What `GET /dev/demo` said. */
  demo: null,
  /** The picture on the page; null while none can be answered. */
  challenge: null,
  /** As the server last described it. */
  verification: null,
  /** No more checks are worth a try. */
  ended: false,
  /** {token, header, claims, verdict} once approved. */
  proof: null,
  /** {line, values}: the calm sentence. */
  status: null,
  /** {line, values, detail, retryAt}: the sentence of the last refusal. */
  error: null,
  /** The button that waits for an answer. */
  busy: null,
};

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

/** A number is one word: it must not be broken at its spaces. */
const unbroken = (phone) => String(phone).replaceAll(' ', '\u00a0');

function say(line, values = {}) {
  const sentence = STRINGS[state.language][line] ?? line;
  return sentence.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
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

/** `1:05`, `23:59:00`: the same in every language. Rounded up, so that 0:00 means now. */
function span(milliseconds) {
  const seconds = Math.max(0, Math.ceil(milliseconds / 1000));
  const two = (number) => String(number).padStart(2, '0');
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** A time of day, with its date when that is not today. */
function moment(instant) {
  const date = new Date(instant);
  const day = date.toDateString() === new Date().toDateString() ? {} : { month: 'short', day: 'numeric' };
  const time = { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' };
  return new Intl.DateTimeFormat(LOCALES[state.language], { ...day, ...time }).format(date);
}

// ---- the server's clock ---------------------------------------------------------------------

/** How far the server's clock is ahead of ours. Countdowns are for instants on the server's. */
let clockAhead = 0;

function learnClock(response) {
  const told = Date.parse(response.headers.get('Date') ?? '');
  const ahead = told - Date.now();
  // The header has whole seconds and was on the way for a while: small differences say nothing.
  if (!Number.isNaN(told)) clockAhead = Math.abs(ahead) > 2000 ? ahead : 0;
}

const serverNow = () => Date.now() + clockAhead;

/** An RFC 3339 text (or seconds since 1970) as milliseconds; null when there is none. */
function instant(value) {
  if (value === null || value === undefined) return null;
  const milliseconds = typeof value === 'number' ? value * 1000 : Date.parse(value);
  return Number.isNaN(milliseconds) ? null : milliseconds;
}

// ---- the API --------------------------------------------------------------------------------

/** The server said no, or nothing at all. */
class Refusal extends Error {
  constructor(kind, problem = {}) {
    super(kind);
    this.kind = kind;
    this.problem = problem;
  }

  /** It may have been done all the same: ask again with the same key, never with a new one. */
  get unsettled() {
    return this.kind === 'offline' || this.kind === 'idempotency-in-flight';
  }
}

async function call(method, path, { body, idempotencyKey } = {}) {
  const headers = { 'Accept': 'application/json, application/problem+json', 'Accept-Language': LOCALES[state.language] };
  if (state.demo) headers['Authorization'] = `Bearer ${state.demo.publishable_key}`;
  if (body) headers['Content-Type'] = 'application/json';
  if (idempotencyKey) headers['Idempotency-Key'] = idempotencyKey;

  let response;
  let answer;
  try {
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal, cache: 'no-store' });
    answer = await response.text();
  } catch {
    throw new Refusal('offline');
  }

  learnClock(response);
  const json = parsed(answer);
  if (!response.ok) throw new Refusal(kindOf(json, response.status), json ?? {});
  if (json === null) throw new Refusal('unknown');
  return json;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The last segment of the problem's `type`; a proxy's own error page has none. */
function kindOf(problem, status) {
  const segments = String(problem?.type ?? '').split(/[/#]/).filter(Boolean);
  if (segments.length > 0 && segments.at(-1) !== 'about:blank') return segments.at(-1);
  return status >= 500 ? 'unavailable' : 'unknown';
}

/** Requests whose outcome we never learned, with the key they went out under. */
const unsettledKeys = new Map();

/** A request that costs a message: repeated after silence, it carries its first key, so that nobody pays twice. */
async function callOnce(path, body) {
  const request = path + JSON.stringify(body ?? null);
  const idempotencyKey = unsettledKeys.get(request) ?? freshKey();
  unsettledKeys.set(request, idempotencyKey);
  try {
    const answer = await call('POST', path, { body, idempotencyKey });
    unsettledKeys.delete(request);
    return answer;
  } catch (refusal) {
    if (!refusal.unsettled) unsettledKeys.delete(request);
    throw refusal;
  }
}

/** 128 random bits. Not `randomUUID`: browsers keep that from pages without TLS. */
function freshKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

// ---- what the person does -------------------------------------------------------------------

/** Runs one request at a time and keeps the button in its place and in focus meanwhile. */
async function busily(button, line, work) {
  if (state.busy) return;
  state.busy = button;
  tell(line);
  try {
    await work();
  } finally {
    state.busy = null;
    draw();
  }
}

let picturesAsked = 0;

/** Asks for a picture and forgets the one before, and what was typed for it. */
async function newPicture() {
  const asked = ++picturesAsked;
  state.challenge = null;
  element('answer').value = '';
  element('clip').pause();
  showPicture('loading');
  try {
    state.demo ??= await demo();
    const challenge = await call('POST', '/v1/challenges');
    if (asked !== picturesAsked) return; // a later wish has overtaken this one
    state.challenge = challenge;
    drawWords(); // the picture's own instruction
    // Only path and query: the server may know itself by a name that the page's policy does not allow.
    const { pathname, search } = new URL(challenge.image_url, location.href);
    element('challenge-image').src = pathname + search;
  } catch (refusal) {
    if (asked !== picturesAsked) return;
    showPicture('failed');
    throw refusal;
  }
}

async function demo() {
  try {
    return await call('GET', '/dev/demo');
  } catch (refusal) {
    throw refusal.kind === 'offline' || refusal.kind === 'unavailable' ? refusal : new Refusal('demo-off');
  }
}

function showPicture(condition) {
  element('picture').dataset.state = condition;
  element('picture').setAttribute('aria-busy', String(condition === 'loading'));
}

async function wishPicture() {
  tell(null);
  mark(null);
  try {
    await newPicture();
    element('answer').focus();
  } catch (refusal) {
    complain(refusal);
  }
}

/** Speaks the challenge. The focus stays where it is until all is said: a screen reader would talk over it. */
async function listen() {
  if (!state.challenge?.audio_url || state.busy) return;
  tell(null);
  mark(null);
  const clip = element('clip');
  const path = `${new URL(state.challenge.audio_url, location.href).pathname}?locale=${state.language}`;
  try {
    if (clip.getAttribute('src') !== path || clip.error) clip.src = path;
    clip.currentTime = 0;
    await clip.play();
  } catch (failure) {
    if (failure.name === 'AbortError') return; // another wish was faster
    complain(await whyNotSpoken(path));
  }
}

/** An audio element does not say what the server said. */
async function whyNotSpoken(path) {
  try {
    await call('GET', path);
  } catch (refusal) {
    if (refusal.kind !== 'unknown') return refusal;
  }
  return new Refusal('no-sound');
}

function listened() {
  tell('listened');
  if (document.activeElement === element('listen')) element('answer').focus();
}

async function submitPhone(event) {
  event.preventDefault();
  const phone = element('phone').value.trim();
  const answer = element('answer').value.trim();
  if (!phone) return missing('phone');
  if (!state.challenge && !state.busy) return wishPicture();
  if (!answer) return missing('answer');

  await busily('send', 'sending', async () => {
    const body = {
      phone,
      challenge: { id: state.challenge.id, answer },
      locale: LOCALES[state.language],
    };
    try {
      state.verification = await callOnce('/v1/verifications', body);
      go('code');
    } catch (refusal) {
      await phoneRefused(refusal);
    }
  });
}

/** For whoever cannot read the picture, or does not want to: the device works instead. */
async function submitWork() {
  const phone = element('phone').value.trim();
  if (!phone) return missing('phone');

  await busily('work', 'working', async () => {
    try {
      state.demo ??= await demo();
      const { id, kind, altcha } = await call('POST', '/v1/challenges', { body: { kind: 'proof-of-work' } });
      // Somebody here has asked too much of late: a picture, all the same.
      if (kind !== 'proof-of-work') throw new Refusal('challenge-required');
      const challenge = { id, answer: await solved(altcha) };
      state.verification = await callOnce('/v1/verifications', { phone, challenge, locale: LOCALES[state.language] });
      go('code');
    } catch (refusal) {
      await phoneRefused(refusal);
    }
  });
}

const unhexed = (text) => Uint8Array.from(text.match(/../g), (pair) => parseInt(pair, 16));
const hexed = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/** Tries one counter after the other until the key begins as it should: ALTCHA's version 2, and its payload. */
async function solved(challenge) {
  if (!crypto.subtle) throw new Refusal('no-work');
  const { nonce, salt, cost, keyLength, keyPrefix } = challenge.parameters;
  const derivation = { name: 'PBKDF2', hash: 'SHA-256', salt: unhexed(salt), iterations: cost };
  const password = new Uint8Array([...unhexed(nonce), 0, 0, 0, 0]);
  const view = new DataView(password.buffer);
  for (let counter = 0; ; counter += 1) {
    view.setUint32(password.length - 4, counter);
    const key = await crypto.subtle.importKey('raw', password, 'PBKDF2', false, ['deriveBits']);
    const derivedKey = hexed(new Uint8Array(await crypto.subtle.deriveBits(derivation, key, keyLength * 8)));
    if (derivedKey.startsWith(keyPrefix)) return btoa(JSON.stringify({ challenge, solution: { counter, derivedKey } }));
  }
}

async function phoneRefused(refusal) {
  const wrong = WRONG_FIELD[refusal.kind] ?? fieldOf(refusal.problem);
  complain(refusal);
  if (refusal.unsettled) return element('send').focus();

  // Whoever has nothing to correct needs the new picture, or another number if theirs is locked.
  const where = wrong ?? (refusal.kind === 'locked' ? 'phone' : 'answer');
  mark(wrong);
  element(where).focus();
  if (where === 'phone') element('phone').select();
  try {
    await newPicture(); // an answer is judged once, whatever came of it
  } catch {
    // The refusal on the page says more than a second one would.
  }
}

/** The field that an `invalid-request` speaks of, if it is one of ours. */
function fieldOf(problem) {
  const key = String(problem.key ?? '');
  return /phone/.test(key) ? 'phone' : null;
}

async function submitCode(event) {
  event.preventDefault();
  // Keyboards for Chinese may write full-width digits, and people copy spaces along.
  const code = element('code').value.normalize('NFKC').replace(/\D/g, '');
  if (state.ended) return element('start-over').focus();
  if (!code) return missing('code');

  await busily('check', 'checking', async () => {
    try {
      const approved = await call('POST', `${verificationPath()}/check`, { body: { code } });
      state.verification = approved;
      showProof(approved.token);
    } catch (refusal) {
      codeRefused(refusal);
    }
  });
}

function codeRefused(refusal) {
  const { checks_left: checksLeft } = refusal.problem;
  if (typeof checksLeft === 'number') state.verification.checks_left = checksLeft;
  complain(refusal);
  if (ENDINGS.has(refusal.kind) || checksLeft === 0) return end();

  mark(WRONG_FIELD[refusal.kind] ?? null);
  element('code').focus();
  element('code').select();
}

/** Nothing more can come of this code: the way on is to start over. */
function end() {
  state.ended = true;
  draw();
  element('start-over').focus();
}

async function resend() {
  await busily('resend', 'sending', async () => {
    try {
      state.verification = await callOnce(`${verificationPath()}/resend`);
      element('code').value = '';
      mark(null);
      tell('code.resent');
      element('code').focus();
    } catch (refusal) {
      resendRefused(refusal);
    }
  });
}

function resendRefused(refusal) {
  complain(refusal);
  if (ENDINGS.has(refusal.kind)) return end();
  if (refusal.problem.retry_at) {
    state.verification.next_send_at = refusal.problem.retry_at;
    element('code').focus(); // the button is about to be switched off
  }
}

const verificationPath = () => `/v1/verifications/${encodeURIComponent(state.verification.id)}`;

function go(step) {
  state.step = step;
  state.ended = false;
  mark(null);
  tell(null);
  if (step === 'code') {
    element('code').value = '';
    element('code').focus();
  } else if (step === 'proof') {
    element('heading-proof').focus();
  }
}

async function startOver() {
  if (state.busy) return; // its answer would come to a page that has moved on
  state.verification = null;
  state.proof = null;
  go('phone');
  element(element('phone').value ? 'answer' : 'phone').focus();
  try {
    await newPicture();
  } catch (refusal) {
    complain(refusal);
  }
}

// ---- the proof ------------------------------------------------------------------------------

async function showProof(token) {
  const proof = { token, verdict: 'checking', ...decoded(token) };
  state.proof = proof;
  go('proof');
  proof.verdict = await verdictOn(proof);
  if (state.proof === proof) draw();
}

function decoded(token) {
  try {
    const [header, claims] = token.split('.', 2).map((part) => JSON.parse(new TextDecoder().decode(base64url(part))));
    return { header, claims };
  } catch {
    return { header: null, claims: null };
  }
}

function base64url(text) {
  const binary = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

/** What anyone who receives the token does: find its key among the published ones, check the signature. */
async function verdictOn({ token, header }) {
  if (!crypto.subtle) return 'unsupported'; // browsers keep it from pages without TLS

  let published;
  try {
    published = await call('GET', '/.well-known/jwks.json');
  } catch {
    return 'unreachable';
  }
  const fits = (jwk) => jwk.kty === 'OKP' && jwk.crv === 'Ed25519' && jwk.kid === header?.kid;
  const jwk = published.keys?.find(fits);
  if (!jwk) return 'no-key';

  let key;
  try {
    // Only these three members: browsers do not agree on what `alg` is called.
    const { kty, crv, x } = jwk;
    key = await crypto.subtle.importKey('jwk', { kty, crv, x }, { name: 'Ed25519' }, false, ['verify']);
  } catch {
    return 'unsupported';
  }
  return (await signatureFits(key, token)) ? 'valid' : 'invalid';
}

async function signatureFits(key, token) {
  try {
    const end = token.lastIndexOf('.');
    const signed = new TextEncoder().encode(token.slice(0, end));
    return await crypto.subtle.verify({ name: 'Ed25519' }, key, base64url(token.slice(end + 1)), signed);
  } catch {
    return false; // a signature that cannot be read is not one
  }
}

// ---- what the page says ---------------------------------------------------------------------

/** A calm sentence, in the place of whatever stood there. */
function tell(line, values) {
  state.status = line && { line, values };
  state.error = null;
  draw();
}

/** A sentence about a refusal. */
function complain({ kind, problem }) {
  let line = `problem.${kind}`;
  if (kind === 'wrong-code' && problem.checks_left === 0) line = 'problem.wrong-code.last';
  state.status = null;
  state.error = { line, detail: problem.detail ?? problem.title, retryAt: instant(problem.retry_at) };
  draw();
}

function missing(field) {
  state.status = null;
  state.error = { line: `missing.${field}` };
  mark(field);
  draw();
  element(field).focus();
}

/** Marks the one field that is wrong, and no other. */
function mark(field) {
  for (const id of ['phone', 'answer', 'code']) {
    if (id === field) element(id).setAttribute('aria-invalid', 'true');
    else element(id).removeAttribute('aria-invalid');
  }
}

/** Who corrects a field needs no more telling, unless there is a time to wait for. */
function corrected(event) {
  if (!event.target.hasAttribute('aria-invalid')) return;
  mark(null);
  if (state.error && !state.error.retryAt) tell(null);
}

function errorSentence({ line, detail, retryAt }) {
  const known = line in STRINGS[state.language];
  // An unreadable request is a matter for the developer, who needs the server's own words.
  const own = line === 'problem.invalid-request' ? detail : null;
  const sentence = known ? say(line) : (detail ?? say('problem.unknown'));
  const wait = retryAt && say('retry', { time: moment(retryAt - clockAhead) });
  return [sentence, own, wait].filter(Boolean).join(state.language === 'zh' ? '' : ' ');
}

// ---- drawing --------------------------------------------------------------------------------

function draw() {
  drawWords();
  drawSteps();
  drawMessages();
  drawVerification();
  drawProof();
  drawClocks();
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
  for (const node of document.querySelectorAll('[data-alt]')) node.alt = say(node.dataset.alt);
  for (const node of document.querySelectorAll('[data-label]')) node.setAttribute('aria-label', say(node.dataset.label));

  element('listen').hidden = Boolean(state.challenge) && !state.challenge.audio_url;
  put('instruction', state.challenge?.instruction[state.language] ?? '');
  drawBusy('send', 'sending');
  drawBusy('work', 'working');
  drawBusy('check', 'checking');
}

/** Not `disabled`: that would throw the focus away. */
function drawBusy(button, line) {
  const busy = state.busy === button;
  element(button).setAttribute('aria-disabled', String(busy));
  if (busy) put(button, say(line));
}

function drawSteps() {
  const order = ['phone', 'code', 'proof'];
  for (const step of order) {
    const item = document.querySelector(`[data-step="${step}"]`);
    element(`step-${step}`).hidden = step !== state.step;
    item.classList.toggle('done', order.indexOf(step) < order.indexOf(state.step));
    if (step === state.step) item.setAttribute('aria-current', 'step');
    else item.removeAttribute('aria-current');
  }
  element('start-over').hidden = state.step === 'phone';
  element('words').hidden = state.step === 'proof';
  element('note').classList.toggle('needed', state.step === 'code');
  element('step-code').parentElement.classList.toggle('ended', state.ended);
}

function drawMessages() {
  put('status', state.status ? say(state.status.line, state.status.values) : '');
  put('error', state.error ? errorSentence(state.error) : '');
  element('error').parentElement.classList.toggle('silent', !state.error);
}

function drawVerification() {
  if (!state.verification) return;
  const { phone, checks_left: checksLeft } = state.verification;
  put('heading-code', say('code.sent', { phone: unbroken(phone) }));
  put('checks-left', typeof checksLeft === 'number' ? say('checks-left', { count: checksLeft }) : '');
}

function drawProof() {
  if (!state.proof) return;
  const { token, header, claims, verdict } = state.proof;
  const pretty = (json) => (json === null ? say('token.strange') : JSON.stringify(json, null, 2));
  put('proved', say('proved', { phone: unbroken(state.verification.phone) }));
  put('token-claims', pretty(claims));
  put('token-header', pretty(header));
  put('token', String(token));
  put('token-life', typeof claims?.exp === 'number' ? say('token.life', { time: moment(claims.exp * 1000) }) : '');
  put('signature', say(`signature.${verdict}`));
  element('signature').dataset.verdict = verdict;
}

// ---- the clocks -----------------------------------------------------------------------------

function tick() {
  drawClocks();
  if (state.step === 'phone') replaceExpiredPicture();
  if (state.step === 'code') noticeExpiry();
  if (state.error?.retryAt && state.error.retryAt <= serverNow()) tell(state.ended ? null : 'retry.now');
}

function drawClocks() {
  const retryAt = state.error?.retryAt;
  put('error-countdown', retryAt ? span(retryAt - serverNow()) : '');
  if (state.step === 'code') drawCodeClocks();
}

function drawCodeClocks() {
  const { expires_at: expiresAt, next_send_at: nextSendAt, sends_left: sendsLeft } = state.verification;
  const validFor = instant(expiresAt) - serverNow();
  const wait = (instant(nextSendAt) ?? 0) - serverNow();
  const over = state.ended || validFor <= 0;

  put('expires', over ? say('expires.over') : say('expires', { time: span(validFor) }));
  element('resend').disabled = state.ended || sendsLeft === 0 || wait > 0;
  put('countdown', state.ended ? '' : resendSentence(wait, sendsLeft));
}

function resendSentence(wait, sendsLeft) {
  if (sendsLeft === 0) return say('resend.none');
  if (wait > 0) return say('resend.wait', { time: span(wait) });
  return typeof sendsLeft === 'number' ? say('resend.left', { count: sendsLeft }) : '';
}

/** A picture lives minutes. Nobody should type the answer of a dead one, and no hidden tab should ask for more. */
async function replaceExpiredPicture() {
  const dead = state.challenge && instant(state.challenge.expires_at) <= serverNow();
  if (!dead || state.busy || document.hidden) return;
  const typed = element('answer').value !== '';
  if (typed) tell('picture.replaced');
  try {
    await newPicture();
  } catch (refusal) {
    complain(refusal);
  }
}

/** Says it once and leaves the fields alone: the server is the judge. */
function noticeExpiry() {
  const { verification } = state;
  if (state.ended || verification.noticed || instant(verification.expires_at) > serverNow()) return;
  verification.noticed = true;
  if (!state.busy) complain({ kind: 'expired', problem: {} });
}

// ---- the beginning --------------------------------------------------------------------------

function begin() {
  element('language').addEventListener('click', changeLanguage);
  element('new-picture').addEventListener('click', wishPicture);
  element('listen').addEventListener('click', listen);
  element('clip').addEventListener('ended', listened);
  element('form-phone').addEventListener('submit', submitPhone);
  element('work').addEventListener('click', submitWork);
  element('form-code').addEventListener('submit', submitCode);
  element('resend').addEventListener('click', resend);
  element('start-over').addEventListener('click', startOver);
  for (const id of ['phone', 'answer', 'code']) element(id).addEventListener('input', corrected);

  element('challenge-image').addEventListener('load', () => showPicture('ready'));
  element('challenge-image').addEventListener('error', () => showPicture('failed'));

  draw();
  setInterval(tick, 250);
  newPicture().catch(complain);
}

begin();
