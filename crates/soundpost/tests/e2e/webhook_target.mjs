// A target of webhooks: an HTTP or HTTPS server that keeps every request as it came, byte for byte, answers as it is
// told to, and has each request verified by the SDKs for Node and for Python, as an application would.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import path from 'node:path'
import readline from 'node:readline'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import PusherServer from 'pusher'
import { APP, TARGET, eventually, within } from './harness.mjs'
import { freePort } from './ports.mjs'

const PYTHON = path.join(TARGET, 'e2e-python/bin/python')
const VERIFIER = path.join(path.dirname(fileURLToPath(import.meta.url)), 'webhook_verify.py')

/** The PyPI package in a process of its own, which is started once for all requests of a test file. */
class PythonSdk {
  #child
  #waiting = []

  #start() {
    this.#child = spawn(PYTHON, ['-B', VERIFIER], { stdio: ['pipe', 'pipe', 'inherit'] })
    readline.createInterface({ input: this.#child.stdout }).on('line', (line) => this.#waiting.shift().resolve(JSON.parse(line)))
    const fail = (error) => this.#waiting.splice(0).forEach(({ reject }) => reject(error))
    this.#child.on('error', fail).on('exit', (code) => fail(new Error(`webhook_verify.py ended (${code})`)))
    // It ends with its input, and this process is not kept by it.
    const parts = [this.#child, this.#child.stdin, this.#child.stdout]
    parts.forEach((part) => part.unref())
    process.on('exit', () => this.#child.kill())
  }

  /** What `Pusher.validate_webhook` gives: the body, or nothing. */
  verdict(question) {
    if (!this.#child) this.#start()
    const answer = new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }))
    this.#child.stdin.write(`${JSON.stringify(question)}\n`)
    return within(answer, 'verdict of the Python SDK', 60_000)
  }
}

const python = new PythonSdk()

/** A request as it came. */
class Received {
  /** When it had come whole, by `performance.now()`. */
  at = performance.now()
  /** When, as Unix time in milliseconds. */
  unix = Date.now()
  /** The status that was answered, and how many bytes were taken of it; none if nothing was. */
  status
  answered

  constructor({ method, url, httpVersion, rawHeaders, headers, socket }, body, number) {
    Object.assign(this, { method, url, httpVersion, rawHeaders, headers, body, number, port: socket.remotePort })
  }

  get text() {
    return this.body.toString()
  }

  /** The value of the header that is spelled like this. */
  header(name) {
    const at = this.rawHeaders.findIndex((text, index) => index % 2 === 0 && text === name)
    return at < 0 ? undefined : this.rawHeaders[at + 1]
  }

  get names() {
    return this.rawHeaders.filter((_, index) => index % 2 === 0)
  }

  get data() {
    return JSON.parse(this.text)
  }

  /** The events of the body, each with its id. */
  get events() {
    const ids = this.ids
    return this.data.events.map((event, n) => ({ ...event, id: ids[n] }))
  }

  get ids() {
    return (this.header('X-Soundpost-Event-Ids') ?? '').split(',')
  }

  get isTaken() {
    return this.status >= 200 && this.status < 300
  }

  /** What both SDKs, knowing this app alone, make of it: nothing, if one of them refuses. */
  async verdict({ key, secret }) {
    const webhook = new PusherServer({ appId: '1', key, secret }).webhook({ headers: this.headers, rawBody: this.text })
    const ofPython = await python.verdict({
      app: { key, secret }, key: this.headers['x-pusher-key'], signature: this.headers['x-pusher-signature'], body: this.text,
    })
    const isValid = webhook.isValid()
    assert.equal(ofPython !== null, isValid, `Node says ${isValid} and Python ${JSON.stringify(ofPython)} of ${this.text}`)
    if (!isValid) return undefined
    const verdict = { time: webhook.getTime(), events: webhook.getEvents() }
    assert.ok(isDeepStrictEqual(ofPython, { time_ms: verdict.time.getTime(), events: verdict.events }), 'the SDKs read different things')
    return verdict
  }
}

/** 200, at once. */
export const healthy = (response) => response.end()
/** 200 after a while, the connection open meanwhile. */
export const slow = (milliseconds) => (response) => setTimeout(() => response.end(), milliseconds)
/** Never. */
export const hanging = () => {}
/** This status, for good. */
export const refusing = (status) => (response) => response.writeHead(status).end('no')
/** This status at the first attempts of each body, then 200. */
export const failing = (times, status = 500) => (response, { number }) => response.writeHead(number <= times ? status : 200).end('later')
/** To another place. */
export const redirecting = (location, status = 302) => (response) => response.writeHead(status, { Location: location }).end()
/** 200, and then as many bytes as are taken. */
export const huge = (bytes) => (response) => {
  const chunk = Buffer.alloc(64 * 1024, 'x')
  const write = (left) => {
    if (left <= 0) return response.end()
    if (!response.destroyed) response.write(chunk, () => write(left - chunk.length))
  }
  write(bytes)
}

/** Ends the connection without an answer. */
export const cutting = (response) => response.socket.destroy()

class Target {
  requests = []
  /** What is answered: called with the response and the request. */
  answer = healthy
  #listener
  #attempts = new Map()
  #started = 0

  constructor({ app, tls, answer = healthy, host = '127.0.0.1' }) {
    Object.assign(this, { app, answer, host, isHttps: tls !== undefined })
    this.tls = tls && { key: readFileSync(tls.key), cert: readFileSync(tls.certificate) }
  }

  get url() {
    return `${this.isHttps ? 'https' : 'http'}://${this.host}:${this.port}/webhook`
  }

  /** Listens, on the same port after `down`. */
  async up() {
    const take = (request, response) => this.#take(request, response)
    this.#listener = this.isHttps ? https.createServer(this.tls, take) : http.createServer(take)
    // Handshakes that the other side breaks off are its business.
    this.#listener.on('tlsClientError', () => {})
    this.#listener.keepAliveTimeout = 60_000
    this.port ??= await freePort()
    this.#listener.listen(this.port, '127.0.0.1')
    await once(this.#listener, 'listening')
  }

  /** Nobody listens, and connections are cut. */
  async down() {
    const closed = new Promise((resolve) => this.#listener.close(resolve))
    this.#listener.closeAllConnections()
    await closed
  }

  /** How many connections are open. */
  connections() {
    return new Promise((resolve, reject) => this.#listener.getConnections((error, count) => (error ? reject(error) : resolve(count))))
  }

  /** Cuts connections that rest. */
  cut() {
    this.#listener.closeIdleConnections()
  }

  async #take(request, response) {
    this.#started += 1
    const chunks = []
    try {
      for await (const chunk of request) chunks.push(chunk)
    } catch {
      // It was broken off: what is not whole is nothing. `broken` counts it.
      return
    }
    const body = Buffer.concat(chunks)
    const number = (this.#attempts.get(body.toString()) ?? 0) + 1
    this.#attempts.set(body.toString(), number)
    const received = new Received(request, body, number)
    const { socket } = request
    const before = socket.bytesWritten
    this.requests.push(received)
    // Also where the other side did not read to the end.
    response.on('error', () => {}).on('close', () => {
      if (response.headersSent) received.status = response.statusCode
      received.answered = socket.bytesWritten - before
    })
    this.answer(response, received)
  }

  /** Requests that broke off before they were whole. */
  get broken() {
    return this.#started - this.requests.length
  }

  /** The events of all requests that were taken, in their order, each once: what an application has that drops repeats. */
  get told() {
    const seen = new Set()
    return this.delivered.filter(({ id }) => !seen.has(id) && seen.add(id))
  }

  /** The same with repeats. */
  get delivered() {
    return this.requests.filter(({ isTaken }) => isTaken).flatMap((request) => request.events.map((event) => ({ ...event, request })))
  }

  /** What was told, in words: `member_added presence-room ada`. */
  get words() {
    return this.told.map(inWords)
  }

  /** Waits until these words, and no others, were told, those of one channel in this order; gives the events. */
  async tells(...words) {
    const isAll = () => words.every((word) => this.words.includes(word)) && this.words.length >= words.length
    // Without them what there is differs from what there should be, which says more.
    await eventually(isAll, 'all events').catch(() => {})
    const byChannel = (list) => Object.entries(groupBy(list, channelOf)).sort()
    assert.deepEqual(byChannel(this.words), byChannel(words))
    return this.told
  }

  /** Waits for an event in these words, and gives it. */
  async hears(word, milliseconds) {
    const find = () => this.told.find((event) => inWords(event) === word)
    return eventually(find, () => `"${word}" at the target; it was told ${this.words.length} events, at last ${this.#last}`, milliseconds)
  }

  /** Waits until so many events were told. */
  async counts(events, milliseconds) {
    const what = () => `${events} events at the target; it was told ${this.told.length}, at last ${this.#last}`
    await eventually(() => this.told.length === events, what, milliseconds)
  }

  /** Waits until there were so many requests, taken or not, or more. */
  async asked(times, milliseconds) {
    const what = () => `${times} requests at the target; there were ${this.requests.length}`
    await eventually(() => this.requests.length >= times, what, milliseconds)
  }

  get #last() {
    return JSON.stringify(this.words.slice(-20))
  }

  /** Asserts of every request that it is a webhook of the app, to the letter, and that no other app's secret made it. */
  async verified({ app = this.app, brokenMax = 0 } = {}) {
    assert.ok(this.broken <= brokenMax, `${this.broken} requests broke off`)
    for (const request of this.requests) {
      const verdict = await request.verdict(app)
      assert.ok(verdict, `an SDK refuses ${request.text}, with ${JSON.stringify(request.rawHeaders)}`)
      assert.ok(Math.abs(verdict.time.getTime() - request.unix) < 300_000)
      assert.equal(await request.verdict({ ...app, secret: `${app.secret}.` }), undefined)
      assert.deepEqual([request.method, request.url, request.httpVersion], ['POST', '/webhook', '1.1'])
      assert.equal(request.header('Content-Type'), 'application/json')
      assert.equal(request.header('X-Pusher-Key'), app.key)
      assert.match(request.header('X-Pusher-Signature'), /^[0-9a-f]{64}$/)
      assert.equal(request.header('Content-Length'), String(request.body.length))
      assert.equal(request.header('Host'), `${this.host}:${this.port}`)
      assert.match(request.header('User-Agent'), /^Soundpost\/\d+\.\d+\.\d+/)
      assert.ok(request.ids.every((id) => /^[0-9a-f]+\.[0-9a-f]+$/.test(id)), request.ids.join())
      assert.equal(request.ids.length, request.data.events.length)
      // Written like this, without a space and with nothing else.
      assert.match(request.text, /^\{"time_ms":\d{13},"events":\[\{"name":"[a-z_]+","channel":"[^"]+".*\}\]\}$/)
    }
    return this.requests.length
  }
}

const channelOf = (word) => word.split(' ')[1]

function groupBy(list, key) {
  const groups = {}
  for (const item of list) (groups[key(item)] ??= []).push(item)
  return groups
}

/** An event as a line: its name, its channel, and what it says beside these. */
export function inWords({ name, channel, user_id: user, event, subscription_count: count }) {
  const more = name === 'client_event' ? event : (user ?? count)
  return [name, channel, more].filter((part) => part !== undefined).join(' ')
}

/** A target that listens, and ends with the test. `app`: whose webhooks it gets; `tls`: as `makeCertificates` gives it. */
export async function startTarget(t, { app = APP, ...options } = {}) {
  const target = new Target({ app, ...options })
  await target.up()
  t.after(() => target.down())
  return target
}
