// What docs/webhooks.md has people paste: each way to check a signature takes what Soundpost sends and refuses what
// others send, and each block of settings is one.

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { BINARY, ROOT, TARGET, configOf, eventually, makeFolder, startProgram, subscribed } from './harness.mjs'
import { freePort } from './ports.mjs'
import { makeCertificates } from './tls.mjs'
import { startStage } from './webhook_stage.mjs'
import { startTarget } from './webhook_target.mjs'

const page = readFileSync(path.join(ROOT, 'docs/webhooks.md'), 'utf8')
const APP = { appId: 'shop', key: 'shop-key', secret: 'the-secret-of-the-shop' }
const folder = makeFolder('soundpost-docs-')
/** Longest that a program may take, milliseconds. */
const PROGRAM = 60_000
const ENV = { PUSHER_APP_KEY: APP.key, PUSHER_APP_SECRET: APP.secret }

/** The blocks of a language under a heading. */
function blocks(heading, language) {
  const [, section] = page.split(new RegExp(`^#+ ${heading}$`, 'm'))
  const [text] = section.split(/^#+ /m)
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, 'gms'))].map(([, inside]) => inside)
}

/** A file of the folder. */
function file(name, text) {
  writeFileSync(path.join(folder, name), text)
  return path.join(folder, name)
}

/** The headers and the text of a webhook, or of what looks like one. */
function made(change = {}) {
  const event = { name: 'client_event', channel: 'presence-room', event: 'client-x', data: 'Zoë \u{1F600} "/"', socket_id: '1.2', user_id: 'é' }
  const { key, secret, body, ...headers } = { key: APP.key, secret: APP.secret, body: JSON.stringify({ time_ms: Date.now(), events: [event] }), ...change }
  const signature = createHmac('sha256', secret).update(body).digest('hex')
  const all = { 'Content-Type': 'application/json', 'X-Pusher-Key': key, 'X-Pusher-Signature': signature, ...headers }
  return { headers: Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)), body }
}

const forged = () => [
  made({ secret: 'another' }), made({ key: 'another' }), made({ 'X-Pusher-Key': undefined }), made({ 'X-Pusher-Signature': undefined }),
  made({ 'X-Pusher-Signature': '' }), made({ 'X-Pusher-Signature': 'ab' }), made({ 'X-Pusher-Signature': 'é'.repeat(32) }),
  { ...made(), body: made().body.replace('Zoë', 'Zoe') },
]

const lowercase = (headers) => Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))

/** What Soundpost has sent: headers and text of each request. */
const sent = []
let php

before(async () => {
  symlinkSync(path.join(ROOT, 'crates/soundpost/tests/e2e/node_modules'), path.join(folder, 'node_modules'))
  Object.assign(process.env, ENV)
  const script = blocks('PHP', 'php')[0]
  file('webhook.php', script)
  const port = await freePort()
  php = await startProgram('php', ['-S', `127.0.0.1:${port}`, '-t', folder], { env: ENV, answers: () => post(port, made()).then((s) => s === 200, () => false) })
  php.port = port
})
after(() => php?.stop())

/** Asks the Python function of each of these, as headers and text. */
function askPython(name, requests) {
  const script = `import json, sys
sys.path.insert(0, ${JSON.stringify(folder)})
from ${name} import events_of
print(json.dumps([events_of(one["headers"], one["body"].encode()) for one in json.load(sys.stdin)]))`
  const { error, status, stdout, stderr } = spawnSync(path.join(TARGET, 'e2e-python/bin/python'), ['-B', '-c', script], { input: JSON.stringify(requests), encoding: 'utf8', timeout: PROGRAM })
  assert.equal(status, 0, `${error ?? ''}${stderr}`)
  return JSON.parse(stdout)
}

/** Posts it, and gives the status. */
function post(port, { headers, body }) {
  return new Promise((resolve, reject) => {
    const request = http.request({ port, host: '127.0.0.1', method: 'POST', path: '/webhook.php', headers: { ...headers, 'Content-Length': Buffer.byteLength(body) } }, (response) => {
      response.resume().on('end', () => resolve(response.statusCode))
    })
    request.on('error', reject).end(body)
  })
}

const eventsIn = ({ body }) => JSON.parse(body).events

describe('docs/webhooks.md', () => {
  test('PHP, and what is sent to the others', async (t) => {
    const target = await startTarget(t, { app: APP })
    const settings = { settings: { subscription_count: true }, webhooks: [{ url: target.url }, { url: `http://127.0.0.1:${php.port}/webhook.php` }] }
    const { connected } = await startStage(t, { app: APP, ...settings })
    const { channel } = await subscribed(await connected('ada'), 'presence-room')
    channel.trigger('client-x', { text: 'Zoë \u{1F600} "/"' })
    await subscribed(await connected('ben'), 'cache-prices')
    await target.hears('client_event presence-room client-x')
    await target.hears('subscription_count cache-prices 1')
    for (const { name, channel } of target.told) {
      await eventually(() => php.said.some((line) => line.endsWith(` ${name} ${channel}`)), `${name} in PHP's log`)
    }
    sent.push(...target.requests.map(({ rawHeaders, text }) => {
      const pairs = rawHeaders.flatMap((header, n) => (n % 2 ? [] : [[header, rawHeaders[n + 1]]]))
      return { headers: Object.fromEntries(pairs), body: text }
    }))
    for (const request of forged()) assert.equal(await post(php.port, request), 401, JSON.stringify(request))
    assert.equal(await post(php.port, made()), 200)
  })

  for (const [n, name] of ['with the SDK', 'without'].entries()) {
    test(`Node, ${name}`, async () => {
      const { eventsOf } = await import(pathToFileURL(file(`webhook${n}.mjs`, blocks('Node', 'js')[n])))
      for (const request of [made(), ...sent]) assert.deepEqual(eventsOf(lowercase(request.headers), request.body), eventsIn(request))
      for (const request of forged()) assert.equal(eventsOf(lowercase(request.headers), request.body), undefined, JSON.stringify(request))
    })

    test(`Python, ${name}`, () => {
      file(`webhook${n}.py`, blocks('Python', 'python')[n])
      const genuine = [made(), ...sent]
      assert.deepEqual(askPython(`webhook${n}`, genuine), genuine.map(eventsIn))
      assert.deepEqual(askPython(`webhook${n}`, forged()), forged().map(() => null))
    })
  }

  test('settings, as the server reads them', (t) => {
    const certificates = makeCertificates()
    t.after(() => certificates.remove())
    const found = [...page.matchAll(/^```toml\n(.*?)^```/gms)].map(([, inside]) => inside)
    assert.ok(found.length > 3)
    for (const [n, text] of found.entries()) {
      const whole = text.includes('[[apps]]') ? text : `${configOf(APP)}${text}`
      const name = file(`block${n}.toml`, whole.replace(/^ca = .*/m, `ca = ${JSON.stringify(certificates.root)}`))
      execFileSync(BINARY, ['check', '--config', name], { stdio: ['ignore', 'ignore', 'pipe'], timeout: PROGRAM })
    }
  })

  test('PHP and Laravel, as far as they can be read without their packages', () => {
    for (const [n, text] of [...blocks('PHP', 'php'), ...blocks('Laravel', 'php'), ...blocks('Order and repeats', 'php')].entries()) {
      const whole = text.trim().startsWith('<?php') ? text : `<?php\n${text.replace(/^ *->/, '$app->')}`
      execFileSync('php', ['-l', file(`lint${n}.php`, whole)], { timeout: PROGRAM })
    }
  })
})
