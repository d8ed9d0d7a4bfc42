// Laravel Echo and pusher-js as a page loads them, in a real browser, with both broadcasters.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { launchBrowser } from './browser.mjs'
import { APP, clientOptions, startApplication, startServer, within } from './harness.mjs'

const PAGE = `<!doctype html><meta charset="utf-8"><title>Echo</title>
<script src="/pusher.js"></script>
<script type="module">import Echo from '/echo.js'; window.Echo = Echo</script>`

let server
let application
let browser

before(async () => {
  server = await startServer()
  application = await startApplication(server, {
    '/': { type: 'text/html', text: PAGE },
    '/pusher.js': 'pusher-js/dist/web/pusher-with-encryption.js',
    '/echo.js': 'laravel-echo/dist/echo.js',
  })
  browser = await launchBrowser()
})
after(async () => {
  await browser?.close()
  await application?.stop()
  await server?.stop()
})

/** A page of its own storage, with `window.echo` joined to the room and what it heard in `window.heard`. */
async function open(broadcaster, user) {
  const page = await (await browser.newContext()).newPage()
  await page.goto(application.url)
  const options = { broadcaster, key: APP.key, ...clientOptions(server), auth: { headers: { 'X-User': user } } }
  const here = page.evaluate(
    (options) =>
      new Promise((resolve, reject) => {
        window.heard = []
        const hear = (what) => (value) => window.heard.push([what, value])
        window.echo = new Echo(options)
        window.room = window.echo
          .join('room')
          .here(resolve)
          .joining(hear('joining'))
          .leaving(hear('leaving'))
          .listen('.message.sent', hear('message.sent'))
          .listen('MessageSent', hear('MessageSent'))
          .listenForWhisper('typing', hear('typing'))
          .error(reject)
      }),
    options,
  )
  return { page, here: await within(here, `subscription as ${user}`) }
}

/** Waits until the page heard as many things as `expected` has, and compares. */
async function heard({ page }, expected) {
  await within(page.waitForFunction((count) => window.heard.length >= count, expected.length), `${JSON.stringify(expected)} in the page`)
  assert.deepEqual(await page.evaluate(() => window.heard.splice(0)), expected)
}

for (const broadcaster of ['reverb', 'pusher']) {
  test(`in Chromium with broadcaster ${broadcaster}: presence, events, toOthers, whispers, leaving`, async () => {
    const ada = await open(broadcaster, 'ada')
    assert.deepEqual(ada.here, [{ id: 'ada', name: 'ada!' }])
    const ben = await open(broadcaster, 'ben')
    assert.deepEqual(ben.here.map(({ id }) => id).sort(), ['ada', 'ben'])
    await heard(ada, [['joining', { id: 'ben', name: 'ben!' }]])

    const socket_id = await ada.page.evaluate(() => window.echo.socketId())
    await application.sdk.trigger('presence-room', 'message.sent', { text: 'to others' }, { socket_id })
    await application.sdk.trigger('presence-room', 'App\\Events\\MessageSent', { text: 'to all' })
    await heard(ben, [['message.sent', { text: 'to others' }], ['MessageSent', { text: 'to all' }]])
    await heard(ada, [['MessageSent', { text: 'to all' }]])

    await ada.page.evaluate(() => void window.room.whisper('typing', { on: true }))
    await heard(ben, [['typing', { on: true }]])

    await ben.page.close()
    await heard(ada, [['leaving', { id: 'ben', name: 'ben!' }]])
    await ada.page.close()
  })
}

test('in Chromium an encrypted channel is decrypted by the page', async () => {
  const { page } = await open('reverb', 'ada')
  const subscribed = page.evaluate(
    () =>
      new Promise((resolve) => {
        const hear = (value) => window.heard.push(value)
        window.echo.encryptedPrivate('vault').listen('.secret', hear).subscribed(resolve)
      }),
  )
  await within(subscribed, 'subscription of the encrypted channel')
  await application.sdk.trigger('private-encrypted-vault', 'secret', { pin: 1234 })
  await heard({ page }, [{ pin: 1234 }])
  await page.close()
})
