// TLS of the server's own, with pusher-js and the SDK in Node.js, and pusher-js in a browser.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { launchBrowser } from './browser.mjs'
import { APP, sdk, startApplication, startProgram, startServer, within } from './harness.mjs'
import { SECRET, configWith, makeCertificates } from './tls.mjs'

const CLIENT = fileURLToPath(new URL('tls_client.mjs', import.meta.url))
const PAGE = '<!doctype html><meta charset="utf-8"><title>TLS</title><script src="/pusher.js"></script>'

let certificates
let server

before(async () => {
  certificates = makeCertificates()
  server = await startServer({ config: configWith(certificates) })
})
after(async () => {
  await server?.stop()
  certificates?.remove()
})

test('pusher-js and the SDK with TLS, and pusher-js finding its way from plain', async () => {
  const env = { NODE_EXTRA_CA_CERTS: certificates.root }
  const found = (line) => (line.startsWith('{') ? JSON.parse(line) : undefined)
  const client = await startProgram(process.execPath, [CLIENT, String(server.port)], { env, found })
  assert.deepEqual(client.value, {
    published: { status: 200, id: 7, length: 60_000 },
    plain: { errors: [4000], socket: 'wss:' },
    again: 'again',
  })
  await client.stop()
})

test('who does not trust the certificate is not connected', async () => {
  const publisher = sdk(server, { secret: SECRET, host: 'localhost', useTLS: true })
  const isMistrust = ({ error }) => error.code === 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'
  await assert.rejects(publisher.trigger('orders', 'never', {}), isMistrust)
})

test('pusher-js in a browser over wss', async () => {
  const browser = await launchBrowser()
  const files = { '/': { type: 'text/html', text: PAGE }, '/pusher.js': 'pusher-js/dist/web/pusher.js' }
  const application = await startApplication(server, files)
  try {
    const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage()
    await page.goto(application.url)
    const heard = page.evaluate(
      ({ key, port }) =>
        new Promise((resolve, reject) => {
          const options = { wsHost: 'localhost', wssPort: port, forceTLS: true, cluster: 'mt1', disableStats: true }
          const pusher = new Pusher(key, { ...options, enabledTransports: ['ws', 'wss'], activityTimeout: 5000 })
          pusher.connection.bind('error', ({ data }) => reject(new Error(JSON.stringify(data))))
          const channel = pusher.subscribe('orders')
          channel.bind('pusher:subscription_succeeded', () => (window.isSubscribed = true))
          channel.bind('shipped', ({ text }) => resolve(text.length))
        }),
      { key: APP.key, port: server.port },
    )
    await within(page.waitForFunction(() => window.isSubscribed), 'subscription of the page')
    const env = { NODE_EXTRA_CA_CERTS: certificates.root, NODE_OPTIONS: '' }
    const publish = `import { sdk } from ${JSON.stringify(new URL('harness.mjs', import.meta.url).href)}
      const to = sdk({ port: ${server.port} }, { secret: ${JSON.stringify(SECRET)}, host: 'localhost', useTLS: true })
      console.log((await to.trigger('orders', 'shipped', { text: 'y'.repeat(70_000) })).status)`
    const args = ['--input-type=module', '--eval', publish]
    const publisher = await startProgram(process.execPath, args, { env, found: (line) => line })
    assert.equal(publisher.value, '200')
    assert.equal(await within(heard, 'event in the browser'), 70_000)
    await publisher.stop()
  } finally {
    await application.stop()
    await browser.close()
  }
})
