// Requests exactly as pusher-http-php 7.2 and pusher-http-ruby 2.0 compose them, replayed byte for byte: neither
// language is needed to run the tests. The signatures are computed here with node:crypto, from the strings that those
// libraries sign. Sources: `sign`, `get`, `post` and `make_event` of src/Pusher.php, and what Guzzle makes of its `query`
// (RFC 3986); lib/pusher/{client,request}.rb, the gem pusher-signature, and what httpclient makes of its query (a form).

import assert from 'node:assert/strict'
import { createHash, createHmac } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import http from 'node:http'
import {
  APP, Clients, DEADLINE, named, reached, startApplication, startServer, subscribed, within,
} from './harness.mjs'

const md5 = (text) => createHash('md5').update(text).digest('hex')
const hmac = (text) => createHmac('sha256', APP.secret).update(text).digest('hex')

/** RFC 3986, as `http_build_query(…, PHP_QUERY_RFC3986)` and so Guzzle. */
const rfc3986 = (text) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)

/** `json_encode` of PHP with its default flags: slashes and everything beyond ASCII escaped. */
const phpJson = (value) =>
  JSON.stringify(value)
    .replaceAll('/', '\\/')
    .replace(/[^\x00-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)

/** A PHP array in a query: each element under its index. */
const phpPairs = ([name, value]) =>
  Array.isArray(value) ? value.map((item, index) => [`${name}[${index}]`, item]) : [[name, value]]

/** Each library: the parameters it adds, the string it signs, and the bytes it sends. */
const LIBRARIES = {
  php: {
    headers: {
      'Content-Type': 'application/json', 'X-Pusher-Library': 'pusher-http-php 7.2.6', 'User-Agent': 'GuzzleHttp/7',
    },
    compose(method, path, params, now) {
      const all = { auth_key: APP.key, auth_timestamp: now, auth_version: '1.0', ...params }
      const sorted = Object.keys(all).sort().map((name) => [name, all[name]])
      // `array_implode`: an array is signed as its elements with commas between, under its bare name.
      const signed = sorted.map(([name, value]) => `${name}=${[value].flat().join(',')}`).join('&')
      const query = sorted.flatMap(phpPairs).map(([name, value]) => `${rfc3986(name)}=${rfc3986(value)}`).join('&')
      return `${query}&auth_signature=${hmac(`${method}\n${path}\n${signed}`)}`
    },
  },
  ruby: {
    headers: {
      'Content-Type': 'application/json', 'X-Pusher-Library': 'pusher-http-ruby 2.0.3',
      'User-Agent': 'HTTPClient/1.0 (2.8.3, ruby 3.2.2 (2023-03-30))', Accept: '*/*',
    },
    compose(method, path, params, now) {
      const all = { ...params, auth_version: '1.0', auth_key: APP.key, auth_timestamp: now }
      const signed = Object.keys(all).sort().map((name) => `${name}=${all[name]}`).join('&')
      // In the order of the hash, the signature at its end; a space is a plus sign.
      return new URLSearchParams({ ...all, auth_signature: hmac(`${method}\n${path}\n${signed}`) }).toString()
    },
  },
}

/** Sends `target` as it stands, which `fetch` would not: it normalizes paths. */
async function send({ port }, { method, target, headers, body }) {
  const answered = new Promise((resolve, reject) => {
    const length = body === undefined ? {} : { 'Content-Length': Buffer.byteLength(body) }
    const request = http.request({ host: '127.0.0.1', port, method, path: target, headers: { ...headers, ...length } })
    request.on('error', reject).on('response', async (response) => {
      const chunks = []
      for await (const chunk of response) chunks.push(chunk)
      resolve({ status: response.statusCode, body: Buffer.concat(chunks).toString() })
    })
    request.end(body)
  })
  return within(answered, `answer to ${method} ${target}`, DEADLINE)
}

/**
 * A request as a library composes it. `path`: what it signs, below the app. `prefix`: what stands before that in the
 * URL only; `signedPrefix`: in what is signed too. `wire`: the path as it is written in the URL, if it is not the same.
 */
function compose(library, { method = 'GET', path, params = {}, body, prefix = '', signedPrefix = '', wire = path }, now) {
  const { headers, compose } = LIBRARIES[library]
  const all = body === undefined ? params : { ...params, body_md5: md5(body) }
  const query = compose(method, `${signedPrefix}/apps/${APP.appId}${path}`, all, now)
  return { method, target: `${prefix}${signedPrefix}/apps/${APP.appId}${wire}?${query}`, headers, body }
}

const seconds = () => Math.floor(Date.now() / 1000)
const clients = new Clients()
let server
let application
let ada
let ben

before(async () => {
  server = await startServer({ env: { SOUNDPOST_SERVER__PATH: 'ws' } })
  // The clients say where: below the prefix.
  application = await startApplication(server)
  const client = (user) => clients.pusher(server, { application, user, wsPath: '/ws' })
  ada = client('ada')
  ben = client('ben')
  await Promise.all([reached(ada, 'connected'), reached(ben, 'connected')])
})
after(async () => {
  clients.close()
  await application?.stop()
  await server?.stop()
})

/** Every request must be answered as the libraries demand: exactly 200, with a JSON object. */
async function replayed(library, request) {
  const { status, body } = await send(server, compose(library, request, seconds()))
  assert.equal(status, 200, body)
  const answer = JSON.parse(body)
  assert.ok(typeof answer === 'object' && answer !== null && !Array.isArray(answer), body)
  return answer
}

describe('pusher-http-php', () => {
  const post = (path, body) => replayed('php', { method: 'POST', path, body: typeof body === 'string' ? body : phpJson(body) })
  const data = { url: 'https://a.test/ü', text: 'Zoë ☂' }

  test('trigger: `channel` for one, `channels` for several', async () => {
    const [one, two] = [await subscribed(ada, 'php-one'), await subscribed(ada, 'private-php.two')]
    assert.deepEqual(await post('/events', { name: 'App\\Events\\Sent', data: phpJson(data), channel: 'php-one' }), {})
    assert.deepEqual(await one.inbox.next(), { event: 'App\\Events\\Sent', data })
    await post('/events', { name: 'both', data: phpJson(data), channels: ['php-one', 'private-php.two'] })
    for (const { inbox } of [one, two]) assert.deepEqual(await inbox.next(), { event: 'both', data })
  })

  test('trigger as Laravel does it: everything in one array, toOthers by socket_id', async () => {
    const [mine, theirs] = [await subscribed(ada, 'private-php-others'), await subscribed(ben, 'private-php-others')]
    const payload = phpJson({ order: { id: 1 }, socket: null })
    const socket_id = ada.connection.socket_id
    await post('/events', { name: 'App\\Events\\OrderShipped', data: payload, channel: 'private-php-others', socket_id })
    await post('/events', { name: 'end', data: '[]', channel: 'private-php-others' })
    assert.deepEqual(await theirs.inbox.next(), { event: 'App\\Events\\OrderShipped', data: { order: { id: 1 }, socket: null } })
    assert.equal((await mine.inbox.next()).event, 'end')
  })

  test('trigger with info: `channels` of the answer is an object', async () => {
    await subscribed(ada, 'presence-php-info')
    const info = 'user_count,subscription_count'
    const body = { name: 'e', data: '{}', channels: ['presence-php-info', 'php-nobody'], info }
    const { channels } = await post('/events', body)
    assert.deepEqual(channels['presence-php-info'], { user_count: 1, subscription_count: 1 })
    assert.equal(typeof channels['php-nobody'], 'object')
  })

  test('triggerBatch', async () => {
    const { inbox } = await subscribed(ada, 'php-batch')
    const batch = ['a', 'b'].map((name) => ({ channel: 'php-batch', name, data: phpJson(data) }))
    assert.deepEqual(await post('/batch_events', { batch }), {})
    for (const event of ['a', 'b']) assert.deepEqual(await inbox.next(), { event, data })
    const counted = await post('/batch_events', { batch: [{ ...batch[0], info: 'subscription_count' }, batch[1]] })
    assert.deepEqual(counted, { batch: [{ subscription_count: 1 }, {}] })
  })

  test('sendToUser, then terminateUserConnections with its body of `{}`', async () => {
    const cy = clients.pusher(server, { application, user: 'cy@a.test', wsPath: '/ws' })
    const own = new Promise((resolve) => cy.connection.bind('message', ({ event, channel }) => {
      if (event === 'pusher_internal:subscription_succeeded' && channel === '#server-to-user-cy@a.test') resolve()
    }))
    const note = new Promise((resolve) => cy.user.bind('note', resolve))
    cy.signin()
    await within(own, 'channel of the user')
    await post('/events', { name: 'note', data: phpJson(data), channel: '#server-to-user-cy@a.test' })
    assert.deepEqual(await within(note, 'note'), data)
    // The library signs the id as it is; Guzzle sends what a path may hold, and `@` it may.
    assert.deepEqual(await post('/users/cy@a.test/terminate_connections', '{}'), {})
    await reached(cy, 'disconnected')
  })

  test('a user id that has to be escaped in the path is signed unescaped', async () => {
    const cy = clients.pusher(server, { application, user: 'cy zoe', wsPath: '/ws' })
    await subscribed(cy, 'presence-php-escaped')
    const path = '/users/cy zoe/terminate_connections'
    await replayed('php', { method: 'POST', path, wire: path.replace(' ', '%20'), body: '{}' })
    await reached(cy, 'disconnected')
  })

  const INFO = 'user_count,subscription_count'
  for (const [what, name, info, pattern] of [
    ['a list with commas, percent-encoded', 'presence-php-list', INFO, /info=user_count%2Csubscription_count/],
    ['an array, signed with commas, sent with indices', 'presence-php-array', INFO.split(','), /info%5B0%5D=user_count&/],
  ]) {
    test(`getChannels: info as ${what}`, async () => {
      await subscribed(ada, name)
      const request = { path: '/channels', params: { filter_by_prefix: name, info } }
      assert.match(compose('php', request, seconds()).target, pattern)
      const { channels } = await replayed('php', request)
      assert.equal(channels[name].user_count, 1)
    })
  }

  test('getChannels where there is none: an object, for get_object_vars', async () => {
    assert.deepEqual(await replayed('php', { path: '/channels', params: { filter_by_prefix: 'no-such-' } }), { channels: {} })
  })

  test('getChannelInfo and getPresenceUsers, channel names as they are in the path', async () => {
    const name = 'presence-php=asked@a;b,c.1'
    await subscribed(ada, name)
    const asked = await replayed('php', { path: `/channels/${name}`, params: { info: INFO } })
    assert.deepEqual(asked, { occupied: true, user_count: 1, subscription_count: 1 })
    assert.deepEqual(await replayed('php', { path: `/channels/${name}/users` }), { users: [{ id: 'ada' }] })
    assert.deepEqual(await replayed('php', { path: '/channels/php-nobody' }), { occupied: false })
  })
})

describe('pusher-http-ruby', () => {
  test('trigger sends `channels` always, parameters first and the rest behind', async () => {
    const [mine, theirs] = [await subscribed(ada, 'ruby'), await subscribed(ben, 'ruby')]
    const post = (path, body) => replayed('ruby', { method: 'POST', path, body: JSON.stringify(body) })
    const data = JSON.stringify({ text: 'Zoë ☂' })
    const body = { socket_id: ada.connection.socket_id, name: 'others', channels: ['ruby'], data }
    assert.deepEqual(await post('/events', body), {})
    await post('/batch_events', { batch: [{ channel: 'ruby', name: 'batched', data }] })
    assert.deepEqual(await theirs.inbox.next(), { event: 'others', data: { text: 'Zoë ☂' } })
    assert.equal((await mine.inbox.next()).event, 'batched')
  })

  test('queries are forms: a comma is %2C, the signature is of the plain text', async () => {
    await subscribed(ada, 'presence-ruby')
    const request = { path: '/channels', params: { filter_by_prefix: 'presence-ruby', info: 'user_count,subscription_count' } }
    assert.match(compose('ruby', request, seconds()).target, /user_count%2Csubscription_count&auth_version/)
    const { channels } = await replayed('ruby', request)
    assert.equal(channels['presence-ruby'].user_count, 1)
    const asked = await replayed('ruby', { path: '/channels/presence-ruby', params: { info: 'user_count' } })
    assert.deepEqual(asked, { occupied: true, user_count: 1 })
    assert.deepEqual(await replayed('ruby', { path: '/channels/presence-ruby/users' }), { users: [{ id: 'ada' }] })
  })

  test('a space of a parameter may be a plus sign', async () => {
    const request = { path: '/channels', params: { filter_by_prefix: 'no such', info: 'subscription_count' } }
    assert.match(compose('ruby', request, seconds()).target, /filter_by_prefix=no\+such/)
    assert.deepEqual(await replayed('ruby', request), { channels: {} })
  })
})

describe('a path prefix', () => {
  const requests = [
    { path: '/channels', params: { filter_by_prefix: 'no-such-' }, answer: { channels: {} } },
    { method: 'POST', path: '/events', body: '{"name":"e","channel":"c","data":"{}"}', answer: {} },
  ]
  for (const [how, where] of [
    ['left out of both, as PHP resolves a `path` without a final slash', {}],
    ['in the URL alone, as PHP with a final slash', { prefix: '/ws' }],
    ['in both, as SDKs whose paths begin with it', { signedPrefix: '/ws' }],
  ]) {
    test(how, async () => {
      for (const library of Object.keys(LIBRARIES)) {
        for (const { answer, ...request } of requests) {
          assert.deepEqual(await replayed(library, { ...request, ...where }), answer, `${library} ${request.path}`)
        }
      }
    })
  }
})

test('what was tampered with is refused with one readable line', async () => {
  const { inbox } = await subscribed(ada, 'untouched')
  const body = phpJson({ name: 'e', channel: 'untouched', data: '{}' })
  const good = compose('php', { method: 'POST', path: '/events', body }, seconds())
  const late = compose('php', { method: 'POST', path: '/events', body }, seconds() - 3600)
  for (const [what, request] of [
    ['body', { ...good, body: body.replace('"e"', '"f"') }],
    ['parameter', { ...good, target: good.target.replace('&auth_version', '&info=user_count&auth_version') }],
    ['path', { ...good, target: good.target.replace('/events', '/batch_events') }],
    ['key', { ...good, target: good.target.replace(APP.key, 'other-key') }],
    ['signature', { ...good, target: good.target.replace(/.$/, (last) => (last === '0' ? '1' : '0')) }],
    ['time', late],
  ]) {
    const { status, body } = await send(server, request)
    assert.equal(status, 401, `${what}: ${body}`)
    assert.match(body, /^[^\n]+\n?$/, what)
  }
  assert.equal((await send(server, good)).status, 200)
  assert.equal((await inbox.next(named('e'))).event, 'e')
  assert.deepEqual(inbox.rest, [])
})
