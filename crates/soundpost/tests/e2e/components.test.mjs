// @laravel/echo-react and @laravel/echo-vue as an application uses them: a component bundled as Vite would, in a real
// browser, against somebody who uses Echo elsewhere.

import assert from 'node:assert/strict'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { launchBrowser } from './browser.mjs'
import {
  APP, Clients, Inbox, clientOptions, echoSubscribed, eventually, startApplication, startServer, within,
} from './harness.mjs'

const here = path.dirname(fileURLToPath(import.meta.url))

/** The bundle of one of `components/`, as text. */
async function bundle(name) {
  const { outputFiles } = await build({
    entryPoints: [path.join(here, 'components', `${name}.mjs`)],
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'browser',
    logLevel: 'error',
    define: {
      'process.env.NODE_ENV': '"development"', 'import.meta.env': '{}',
      __VUE_OPTIONS_API__: 'false', __VUE_PROD_DEVTOOLS__: 'false', __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: 'false',
    },
  })
  return { type: 'text/javascript', text: outputFiles[0].text }
}

/** What Laravel's `configureEcho` is given; the rest comes from the package's own defaults. */
function pageOf(name, server) {
  const { wsHost, wsPort, wssPort, forceTLS } = clientOptions(server)
  const auth = { headers: { 'X-User': 'ada' } }
  const options = { broadcaster: 'reverb', key: APP.key, wsHost, wsPort, wssPort, forceTLS, auth }
  const text = `<!doctype html><meta charset="utf-8"><title>${name}</title><link rel="icon" href="data:,"><div id="app"></div>
<script>window.echoOptions = ${JSON.stringify(options)}</script>
<script type="module" src="/${name}.js"></script>`
  return { type: 'text/html', text }
}

const NAMES = ['react', 'vue']
const clients = new Clients()
let server
let application
let browser

before(async () => {
  const bundles = Promise.all(NAMES.map(bundle))
  server = await startServer()
  const files = {}
  for (const [index, name] of NAMES.entries()) {
    files[`/${name}`] = pageOf(name, server)
    files[`/${name}.js`] = (await bundles)[index]
  }
  application = await startApplication(server, files)
  browser = await launchBrowser()
})
after(async () => {
  await browser?.close()
  clients.close()
  await application?.stop()
  await server?.stop()
})

const channels = async () => Object.keys((await (await application.sdk.get({ path: '/channels' })).json()).channels).sort()

for (const name of NAMES) {
  test(`@laravel/echo-${name}: events of every kind, presence, whispers, and nothing left after unmounting`, async (t) => {
    const page = await (await browser.newContext()).newPage()
    t.after(() => page.close())
    const problems = []
    page.on('pageerror', (error) => problems.push(String(error)))
    page.on('console', (line) => line.type() === 'error' && problems.push(line.text()))
    await page.goto(`${application.url}/${name}`)
    const shows = (id, text) =>
      within(page.waitForFunction(([id, text]) => document.getElementById(id)?.textContent === text, [id, text]), `"${text}" in #${id} of the page`)
    await shows('status', 'connected')
    await shows('members', 'ada')
    const held = ['news', 'presence-room', 'private-App.Models.Order.7', 'private-App.Models.User.1', 'private-orders.1']
    await eventually(async () => String(await channels()) === String(held), 'subscriptions of the page')

    // Somebody else comes, whispers, and hears the page whisper.
    const ben = clients.echo(server, { broadcaster: 'reverb', application, user: 'ben' })
    const whispers = new Inbox()
    const room = ben.join('room').listenForWhisper('typing', whispers.push)
    await echoSubscribed(room)
    await shows('members', 'ada ben')
    room.whisper('typing', { by: 'ben' })
    const hearing = (count) =>
      within(page.waitForFunction((count) => document.querySelectorAll('#heard li').length >= count, count), `${count} lines in #heard of the page`)
    await hearing(1)
    await page.click('#whisper')
    assert.deepEqual(await whispers.next(), { by: 'page' })

    const { sdk } = application
    const socket_id = await page.textContent('#socket-id')
    await sdk.trigger('news', 'App\\Events\\Posted', { to: 'others' }, { socket_id })
    await sdk.trigger('news', 'App\\Events\\Posted', { title: 'Zoë' })
    await sdk.trigger('private-orders.1', 'App\\Events\\Shipped', { id: 1 })
    await sdk.trigger('private-orders.1', 'order.paid', { id: 2 })
    const note = { id: 'a-uuid', type: 'App\\Notifications\\InvoicePaid', amount: 12 }
    await sdk.trigger('private-App.Models.User.1', 'Illuminate\\Notifications\\Events\\BroadcastNotificationCreated', note)
    await sdk.trigger('private-App.Models.Order.7', 'OrderUpdated', { model: { id: 7 } })
    await sdk.trigger('presence-room', 'App\\Events\\Said', { text: 'hello' })
    const expected = [
      ['whisper', { by: 'ben' }],
      ['public', { title: 'Zoë' }],
      ['private', { id: 1 }],
      ['private', { id: 2 }],
      ['notification', note],
      ['model', { model: { id: 7 } }],
      ['presence', { text: 'hello' }],
    ]
    await hearing(expected.length)
    const heard = await page.locator('#heard li').allTextContents()
    assert.deepEqual(heard.map((item) => JSON.parse(item)), expected)

    ben.leave('room')
    await shows('members', 'ada')
    await page.click('#close')
    await shows('app', 'closed')
    await eventually(async () => (await channels()).length === 0, 'end of every subscription')
    ben.disconnect()
    assert.deepEqual(problems, [])
  })
}
