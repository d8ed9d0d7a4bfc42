// Behind real proxies: what the server believes them, and that clients and publishers notice nothing of them.

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { after, test } from 'node:test'
import {
  APP, Clients, Inbox, configOf, eventually, named, reached, sdk, startServer, subscribed, within,
} from './harness.mjs'
import { PASS, makeCertificate, makeFolder, startHaproxy, startNginx } from './proxies.mjs'

// The certificates of this file are signed by nobody, and pusher-js has no option for one of ours.
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'

const TLS_ONLY = { appId: 'tls', key: 'tls-key', secret: 'tls-secret-of-the-tests' }
const open = []
const keep = (program) => {
  open.unshift(program)
  return program
}
const { folder, remove } = makeFolder()
const { certificate, key } = makeCertificate(folder)
const clients = new Clients()
after(async () => {
  clients.close()
  for (const program of open) await program.stop()
  remove()
})

/** A server with the development app's names and one that takes TLS only; `lines` are for `[server]`. */
const serve = async (lines, options = {}) => {
  const config = `[server]\n${lines}\n[admin]\nport = 0\n${configOf(APP)}${configOf(TLS_ONLY, { tls_only: true })}`
  return keep(await startServer({ config, ...options }))
}

/** What a handshake with these headers is answered with, from an address of the loopback; the socket stays open. */
const knock = (port, { from = '127.0.0.1', target = `/app/${APP.key}`, headers = {} } = {}) => {
  const upgrade = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==' }
  const request = http.request({ host: '127.0.0.1', port, localAddress: from, path: target, headers: { ...upgrade, ...headers } })
  request.end()
  const answered = new Promise((resolve, reject) => {
    request.on('upgrade', (_, socket) => {
      keep({ stop: () => socket.destroy() })
      resolve({ status: 101, leave: () => socket.destroy() })
    })
    request.on('response', (response) => resolve({ status: response.statusCode }))
    request.on('error', reject)
  })
  return within(answered, 'answer')
}

/** Publishes through `port` until the client has heard all of it, large and small. */
const publish = async (port, client, options = {}) => {
  const publisher = sdk({ port }, options)
  const { inbox } = await subscribed(client, 'orders')
  for (const data of [{ n: 1 }, { text: 'x'.repeat(90_000) }, { n: 2 }]) {
    assert.deepEqual(await (await publisher.trigger('orders', 'placed', data)).json(), {})
    assert.deepEqual((await inbox.next(named('placed'))).data, data)
  }
  const { channels } = await (await publisher.get({ path: '/channels', params: { info: 'subscription_count' } })).json()
  assert.deepEqual(channels, { orders: { subscription_count: 1 } })
  client.unsubscribe('orders')
}

test('nginx with a prefix, buffering or not, taken away or handed on', async () => {
  const [under, bare] = [await serve('path = "ws"'), await serve('')]
  const nginx = keep(await startNginx(3, ([on, off, cut]) => `
    server { listen 127.0.0.1:${on}; proxy_buffering on;
      location ~ ^/(ws|apps)/ { proxy_pass http://127.0.0.1:${under.port}; ${PASS} } }
    server { listen 127.0.0.1:${off}; proxy_buffering off; proxy_request_buffering off;
      location ~ ^/(ws|apps)/ { proxy_pass http://127.0.0.1:${under.port}; ${PASS} } }
    server { listen 127.0.0.1:${cut};
      location /ws/ { proxy_pass http://127.0.0.1:${bare.port}/; ${PASS} }
      location /apps/ { proxy_pass http://127.0.0.1:${bare.port}; ${PASS} } }`))
  for (const port of nginx.ports) {
    const client = clients.pusher({ port }, { wsPath: '/ws' })
    await reached(client, 'connected')
    await publish(port, client)
    client.disconnect()
    const up = await fetch(`http://127.0.0.1:${port}/ws/up`)
    assert.deepEqual([up.status, await up.text()], [200, '{"health":"OK"}'])
  }
})

test('TLS that ends at nginx is TLS for an app that takes nothing else', async () => {
  const server = await serve('trusted_proxies = ["127.0.0.1"]')
  const nginx = keep(await startNginx(2, ([plain, tls]) => `
    ssl_certificate ${certificate}; ssl_certificate_key ${key};
    server { listen 127.0.0.1:${plain}; listen 127.0.0.1:${tls} ssl;
      location / { proxy_pass http://127.0.0.1:${server.port}; ${PASS} } }`))
  const [plain, tls] = nginx.ports
  const secure = clients.pusher({ port: tls }, { key: TLS_ONLY.key, forceTLS: true })
  await reached(secure, 'connected')
  await publish(tls, secure, { ...TLS_ONLY, useTLS: true })
  secure.disconnect()

  // Without TLS it hears 4000, on which pusher-js changes over to TLS.
  const refusals = new Inbox()
  const changing = clients.pusher({ port: plain }, { key: TLS_ONLY.key, wssPort: tls })
  changing.connection.bind('error', refusals.push)
  assert.equal((await refusals.next()).error.data.code, 4000)
  await reached(changing, 'connected')
})

test('clients behind nginx are counted and logged each by its own address', async () => {
  const lines = 'trusted_proxies = ["127.0.0.1"]\nconnections_per_address_max = 2'
  const server = await serve(lines, { env: { SOUNDPOST_LOG: 'debug', NO_COLOR: '1' } })
  const nginx = keep(await startNginx(1, ([port]) => `
    server { listen 127.0.0.1:${port}; location / { proxy_pass http://127.0.0.1:${server.port}; ${PASS} } }`))
  const through = async (from, headers) => (await knock(nginx.port, { from, headers })).status
  const first = await knock(nginx.port, { from: '127.0.0.5' })
  assert.deepEqual([first.status, await through('127.0.0.5')], [101, 101])
  assert.equal(await through('127.0.0.5'), 429)
  const spoofed = { 'x-forwarded-for': '192.0.2.9', forwarded: 'for=192.0.2.9' }
  assert.equal(await through('127.0.0.5', spoofed), 429)
  assert.deepEqual([await through('127.0.0.6'), await through('127.0.0.6')], [101, 101])
  // Past nginx nobody is believed.
  const past = async (from) => (await knock(server.port, { from, headers: spoofed })).status
  assert.deepEqual([await past('127.0.0.7'), await past('127.0.0.7'), await past('127.0.0.7')], [101, 101, 429])
  const refused = (address) => server.said.some((line) => line.includes('connection refused') && line.includes(`address=${address} `))
  await eventually(() => refused('127.0.0.5') && refused('127.0.0.7'), 'log lines with the addresses')
  assert.ok(!server.said.some((line) => line.includes('192.0.2.9')))
  first.leave()
  await eventually(async () => (await through('127.0.0.5')) === 101, 'a place that was given back')
  const other = await knock(nginx.port, { from: '127.0.0.8', target: '/app/no-such-key' })
  assert.equal(other.status, 101)
  await eventually(() => refused('127.0.0.8'), 'the address of a client with an unknown key')
})

test('nginx is reloaded under open connections', async () => {
  const server = await serve('trusted_proxies = ["127.0.0.1"]')
  const publisher = sdk(server)
  const connections = async () => (await (await publisher.get({ path: '/connections' })).json()).connections
  const site = ([port]) => `
    server { listen 127.0.0.1:${port}; location / { proxy_pass http://127.0.0.1:${server.port}; ${PASS} } }`
  const [patient, hasty] = [keep(await startNginx(1, site)), keep(await startNginx(1, site, 'worker_shutdown_timeout 1s;'))]
  const reload = async (nginx) => {
    nginx.reload()
    await eventually(() => nginx.said.some((line) => line.includes('gracefully shutting down')), 'reload')
  }
  const [staying, leaving] = [clients.pusher(patient), clients.pusher(hasty)]
  const [kept, lost] = [await subscribed(staying, 'news'), await subscribed(leaving, 'news')]
  const ids = [staying, leaving].map(({ connection }) => connection.socket_id)
  await Promise.all([reload(patient), reload(hasty)])
  // The old processes of nginx live on for their connections, at most as long as they may.
  await eventually(() => leaving.connection.state === 'connected' && leaving.connection.socket_id !== ids[1], 'reconnection')
  await lost.inbox.next(named('pusher:subscription_succeeded'))
  const later = await subscribed(clients.pusher(patient), 'news')
  await publisher.trigger('news', 'reloaded', { n: 1 })
  for (const { inbox } of [kept, lost, later]) assert.deepEqual((await inbox.next(named('reloaded'))).data, { n: 1 })
  assert.equal(staying.connection.socket_id, ids[0])
  await eventually(async () => (await connections()) === 3, 'nothing of the connection that nginx ended')
})

test('nginx reaches the server by its Unix socket', async () => {
  const socket = path.join(folder, 'soundpost.sock')
  const lines = `unix_socket = ${JSON.stringify(socket)}\nunix_socket_mode = "0666"\nconnections_per_address_max = 2`
  const server = await serve(lines)
  const nginx = keep(await startNginx(1, ([port]) => `
    upstream soundpost { server unix:${socket}; keepalive 8; }
    server { listen 127.0.0.1:${port}; location / { proxy_pass http://soundpost; ${PASS} } }`))
  const client = clients.pusher(nginx)
  await reached(client, 'connected')
  await publish(nginx.port, client)
  const through = async (from) => (await knock(nginx.port, { from })).status
  for (const status of [101, 101, 429]) assert.equal(await through('127.0.0.5'), status)
  assert.equal(await through('127.0.0.6'), 101)
  // Both ways lead to one server.
  const direct = http.request({ socketPath: socket, path: '/up' }).end()
  const response = await within(new Promise((resolve, reject) => direct.on('response', resolve).on('error', reject)), 'answer')
  assert.equal(response.statusCode, 200)
  response.resume()
  assert.equal((await fetch(`http://127.0.0.1:${server.port}/up`)).status, 200)
})

test('HAProxy tells the client and its TLS in a PROXY header', async () => {
  const lines = 'trusted_proxies = ["127.0.0.1"]\nproxy_protocol = true\nconnections_per_address_max = 2'
  const server = await serve(lines)
  const both = path.join(folder, 'haproxy.pem')
  writeFileSync(both, readFileSync(certificate, 'utf8') + readFileSync(key, 'utf8'))
  const haproxy = keep(await startHaproxy(3, ([plain, tls, old]) => `
frontend plain
  bind 127.0.0.1:${plain}
  default_backend new
frontend tls
  bind 127.0.0.1:${tls} ssl crt ${both}
  default_backend new
frontend old
  bind 127.0.0.1:${old}
  default_backend old
backend new
  server soundpost 127.0.0.1:${server.port} send-proxy-v2-ssl check inter 100ms check-send-proxy
backend old
  server soundpost 127.0.0.1:${server.port} send-proxy check inter 100ms check-send-proxy`))
  const [plain, tls, old] = haproxy.ports
  const secure = clients.pusher({ port: tls }, { key: TLS_ONLY.key, forceTLS: true })
  await reached(secure, 'connected')
  const refusals = new Inbox()
  const changing = clients.pusher({ port: plain }, { key: TLS_ONLY.key, wssPort: tls })
  changing.connection.bind('error', refusals.push)
  assert.equal((await refusals.next()).error.data.code, 4000)
  await reached(changing, 'connected')
  for (const [port, from] of [[plain, '127.0.0.5'], [old, '127.0.0.6']]) {
    const through = async () => (await knock(port, { from })).status
    assert.deepEqual([await through(), await through(), await through()], [101, 101, 429])
  }
  const [, admin] = server.said.join('\n').match(/admin +(http:\/\/[^/]+)/)
  const metrics = await (await fetch(`${admin}/metrics`)).text()
  assert.match(metrics, /soundpost_refused_total\{app="",reason="address"\} 2/)
  assert.ok(!metrics.includes('proxy_header'), 'HAProxy looks whether we are there, and that is no broken header')
})
