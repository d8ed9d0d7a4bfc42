// What docs/migrating promises: the settings of Reverb and of soketi, and the lines of the page for Pusher, served to
// Laravel Echo and a publisher as they are.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { after, test } from 'node:test'
import Echo from 'laravel-echo'
import { Clients, echoSubscribed, Inbox, Pusher, ROOT, sdk, startApplication, startServer } from './harness.mjs'

const clients = new Clients()
const stops = []
after(async () => {
  clients.close()
  await Promise.all(stops.map((stop) => stop()))
})

const page = (name) => readFileSync(path.join(ROOT, 'docs/migrating', name), 'utf8')

/** The first block of a language in which `mark` stands. */
function block(text, language, mark = '') {
  const blocks = [...text.matchAll(new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, 'gs'))].map(([, inside]) => inside)
  return blocks.find((inside) => inside.includes(mark))
}

/** Starts a server, and the application that signs for its app. */
async function start(app, options) {
  const server = await startServer({ ...options, env: { SOUNDPOST_ADMIN__PORT: '0' } })
  const application = await startApplication(server, {}, app)
  stops.push(server.stop, application.stop)
  return { server, application }
}

/** An event of the SDK reaches Echo on a private channel, and the API counts the connection. */
async function serves(server, app, echo) {
  clients.closing(echo)
  const inbox = new Inbox()
  const orders = echo.private('orders').listen('.shipped', inbox.push)
  await echoSubscribed(orders)
  const publisher = sdk(server, app)
  await publisher.trigger('private-orders', 'shipped', { order: 7 })
  assert.deepEqual(await inbox.next(), { order: 7 })
  // What Pulse's recorder asks.
  const answer = await publisher.get({ path: '/connections' })
  assert.deepEqual(await answer.json(), { connections: 1 })
}

test('the .env and config/reverb.php of an application that ran Reverb', async () => {
  const app = { appId: '845213', key: 'ia0ihgsytbs5yotmgdxz', secret: 'the-secret-of-the-shop' }
  const env = `APP_NAME=Laravel
APP_KEY=base64:c2VjcmV0
BROADCAST_CONNECTION=reverb
REDIS_PASSWORD=null
REVERB_APP_ID=${app.appId}
REVERB_APP_KEY=${app.key}
REVERB_APP_SECRET=${app.secret}
REVERB_HOST="ws.app.test"
REVERB_PORT=443
REVERB_SCHEME=https
VITE_REVERB_APP_KEY="\${REVERB_APP_KEY}"
`
  const config = `<?php
return [
    'default' => env('REVERB_SERVER', 'reverb'),
    'servers' => ['reverb' => [
        'host' => env('REVERB_SERVER_HOST', '0.0.0.0'), 'port' => env('REVERB_SERVER_PORT', 8080),
        'hostname' => env('REVERB_HOST'), 'options' => ['tls' => []],
        'max_request_size' => env('REVERB_MAX_REQUEST_SIZE', 10_000),
        'scaling' => ['enabled' => env('REVERB_SCALING_ENABLED', false)],
    ]],
    'apps' => ['provider' => 'config', 'apps' => [[
        'key' => env('REVERB_APP_KEY'), 'secret' => env('REVERB_APP_SECRET'), 'app_id' => env('REVERB_APP_ID'),
        'options' => ['host' => env('REVERB_HOST'), 'path' => env('REVERB_SERVER_PATH', '')],
        'allowed_origins' => ['*'], 'ping_interval' => env('REVERB_APP_PING_INTERVAL', 60),
        'activity_timeout' => 17, 'max_message_size' => 10_000,
    ]]],
];
`
  const { server, application } = await start(app, { files: { '.env': env, 'config/reverb.php': config } })
  const echo = clients.echo(server, { broadcaster: 'reverb', key: app.key, application, user: 'ada' })
  await serves(server, app, echo)
  assert.equal(echo.connector.pusher.connection.activityTimeout, 17_000)
})

test("soketi's variables in the .env", async () => {
  const app = { appId: 'shop', key: 'shop-key', secret: 'the-secret-of-the-shop' }
  const env = `SOKETI_DEFAULT_APP_ID=${app.appId}
SOKETI_DEFAULT_APP_KEY=${app.key}
SOKETI_DEFAULT_APP_SECRET=${app.secret}
SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES=true
`
  const { server, application } = await start(app, { files: { '.env': env } })
  await serves(server, app, clients.echo(server, { broadcaster: 'pusher', key: app.key, application, user: 'ada' }))
})

test("Pusher's app and the page's options, as the page has them", async () => {
  const text = page('from-pusher.md')
  const config = block(text, 'toml')
  const [appId, key, secret] = ['id', 'key', 'secret'].map((name) => config.match(new RegExp(`${name} = "(.*)"`))[1])
  const app = { appId, key, secret }
  const { server, application } = await start(app, { config })
  const env = {}
  for (const [, name, value] of block(text, 'sh', 'VITE_PUSHER').matchAll(/^ *(\w+)="?([^"\n]*)"?$/gm)) {
    env[name] = value.replace(/\$\{(\w+)\}/g, (_, other) => env[other])
  }
  assert.equal(env.VITE_PUSHER_APP_KEY, key)
  // This machine in the place of the host with TLS.
  Object.assign(env, { VITE_PUSHER_HOST: '127.0.0.1', VITE_PUSHER_PORT: server.port, VITE_PUSHER_SCHEME: 'http' })
  const script = block(text, 'js').replaceAll('import.meta.env', 'env').replace('window.Echo = new Echo({', 'return new Echo({ ...more,')
  const more = { Pusher, authEndpoint: application.authEndpoint, auth: { headers: { 'X-User': 'ada' } } }
  await serves(server, app, new Function('Echo', 'env', 'more', script)(Echo, env, more))
})
