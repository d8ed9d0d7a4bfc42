// Settings that are read again: on SIGHUP and when a file changes, with clients and publishers that do not notice.

import assert from 'node:assert/strict'
import { renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { after, test } from 'node:test'
import {
  Clients, configOf, eventually, inboxOf, named, reached, sdk, startApplication, startServer, subscribed, within,
} from './harness.mjs'

const clients = new Clients()
const stops = []
after(async () => {
  clients.close()
  await Promise.all(stops.map((stop) => stop()))
})

const BLOG = { appId: 'blog', key: 'blog-key', secret: 'the-secret-of-the-blog' }
const SHOP = { appId: 'shop', key: 'shop-key', secret: 'the-secret-of-the-shop' }
const ADMIN = '[admin]\nport = 0\n'

async function start(options) {
  const server = await startServer(options)
  stops.push(server.stop)
  return server
}

/** The metrics as text, from the admin listener that the start has named. */
async function metricsOf({ said }) {
  const [, url] = said.map((line) => line.match(/(http:\/\/\S+\/metrics)/)).find(Boolean)
  return (await fetch(url)).text()
}

/** How many reloads ended so. */
async function reloads(server, result) {
  const [, count] = (await metricsOf(server)).match(new RegExp(`soundpost_reloads_total{result="${result}"} (\\d+)`))
  return Number(count)
}

/** Changes something and waits until one more reload has ended as expected. */
async function reloaded(server, result, change) {
  const before = await reloads(server, result)
  await change()
  await eventually(async () => (await reloads(server, result)) > before, `reload that is ${result}`)
}

/** The HTTP status of a trigger signed as this app. */
async function statusAs(server, app, channel = 'news') {
  try {
    return (await sdk(server, app).trigger(channel, 'e', {})).status
  } catch ({ status }) {
    return status
  }
}

/** What a client of the app hears first: that it is connected, or the code of an error. */
function firstWord(server, { key }) {
  const client = clients.pusher(server, { key })
  const heard = new Promise((resolve) => {
    client.connection.bind('connected', () => resolve('connected'))
    client.connection.bind('error', ({ error, data }) => resolve((error ?? data)?.data?.code ?? data?.code))
  })
  return within(heard, 'first word').finally(() => client.disconnect())
}

test('a file that is edited, in place or by a rename, is read within seconds', async () => {
  const server = await start({ config: ADMIN + configOf(BLOG) })
  const file = path.join(server.cwd, 'soundpost.toml')
  const reader = clients.pusher(server, { key: BLOG.key })
  const { inbox } = await subscribed(reader, 'news')
  assert.equal(await statusAs(server, SHOP), 404)
  await reloaded(server, 'applied', () => {
    writeFileSync(`${file}.new`, ADMIN + configOf(BLOG) + configOf(SHOP))
    renameSync(`${file}.new`, file)
  })
  assert.deepEqual([await statusAs(server, SHOP), await firstWord(server, SHOP)], [200, 'connected'])
  const shopper = clients.pusher(server, { key: SHOP.key })
  await reached(shopper, 'connected')

  await reloaded(server, 'refused', () => writeFileSync(file, `${ADMIN}${configOf(BLOG)}[[apps]\n`))
  assert.equal(await statusAs(server, SHOP), 200, 'the settings before stay')
  await reloaded(server, 'refused', () => rmSync(file))
  await reloaded(server, 'applied', () => writeFileSync(file, ADMIN + configOf(BLOG)))
  assert.deepEqual([await statusAs(server, SHOP), await firstWord(server, SHOP)], [404, 4001])
  // pusher-js does not come back from 4001.
  await reached(shopper, 'disconnected')

  assert.equal(await statusAs(server, BLOG), 200)
  await inbox.next(named('e'), 'event after all that')
  assert.equal(reader.connection.state, 'connected')
  const said = server.said.filter((line) => /settings (not )?reloaded/.test(line)).join('\n')
  assert.match(said, /settings reloaded: apps added: shop\n/)
  assert.match(said, /settings not reloaded, the old ones stay: \S+soundpost\.toml:\d+: /)
  assert.match(said, /settings not reloaded, the old ones stay: cannot read \S+soundpost\.toml: No such file/)
  assert.match(said, /settings reloaded: apps removed: shop$/)
  assert.doesNotMatch(server.said.join('\n'), /the-secret-of/)
})

test('SIGHUP reads a changed .env, also a changed secret beside the one before', async () => {
  const dotenv = (secret, more = '') => {
    const lines = [`REVERB_APP_ID=${BLOG.appId}`, `REVERB_APP_KEY=${BLOG.key}`, `REVERB_APP_SECRET=${secret}`]
    return [...lines, 'SOUNDPOST_ADMIN__PORT=0', 'SOUNDPOST_SERVER__WATCH_FILES=false', more].join('\n')
  }
  const server = await start({ files: { '.env': dotenv(BLOG.secret) } })
  const hangUp = (result, text) => reloaded(server, result, () => {
    writeFileSync(path.join(server.cwd, '.env'), text)
    server.hangUp()
  })
  const renewed = { ...BLOG, secret: 'another-secret-of-the-blog' }
  const application = await startApplication(server, {}, BLOG)
  const renewedApplication = await startApplication(server, {}, renewed)
  stops.push(application.stop, renewedApplication.stop)
  const joins = async (by) => {
    const client = clients.pusher(server, { application: by, user: 'ada', key: BLOG.key })
    const isAnswer = ({ event }) => /^pusher:subscription_(succeeded|error)$/.test(event)
    const { event } = await inboxOf(client.subscribe('private-a')).next(isAnswer, 'answer to the subscription')
    client.disconnect()
    return event === 'pusher:subscription_succeeded'
  }
  const accepted = async () => [
    await statusAs(server, BLOG), await statusAs(server, renewed), await joins(application), await joins(renewedApplication),
  ]
  const stays = clients.pusher(server, { application, user: 'bob', key: BLOG.key })
  await subscribed(stays, 'private-a')
  assert.deepEqual(await accepted(), [200, 401, true, false])
  const previous = `SOUNDPOST_APPS__0__ID=${BLOG.appId}\nSOUNDPOST_APPS__0__PREVIOUS_SECRET=${BLOG.secret}`
  await hangUp('applied', dotenv(renewed.secret, previous))
  assert.deepEqual(await accepted(), [200, 200, true, true])
  await hangUp('applied', dotenv(renewed.secret))
  assert.deepEqual(await accepted(), [401, 200, false, true])
  await hangUp('refused', dotenv(renewed.secret, 'SOUNDPOST_SERVER__WORKERS=none'))
  await hangUp('unchanged', dotenv(renewed.secret))
  // The filter of the log follows, too.
  await hangUp('applied', dotenv(renewed.secret, 'SOUNDPOST_SERVER__DEBUG=true'))
  assert.equal(await statusAs(server, renewed, 'private-a'), 200)
  await eventually(() => server.said.some((line) => line.includes('-> {"event":"e"')), 'frame in the log')
  assert.equal(stays.connection.state, 'connected')
  assert.doesNotMatch(server.said.join('\n'), /-secret-of-the-blog/)
})

test('20 reloads while events are triggered, and every event arrives in its order', async () => {
  const RELOADS = 20
  /** So many triggers a second at most, and so many, at least, from one reload to the next. */
  const [RATE, BETWEEN] = [200, 20]
  const config = (round) => `${ADMIN}${configOf(BLOG, { presence_members_max: 1000 + round })}`
  const server = await start({ config: config(0) })
  const file = path.join(server.cwd, 'soundpost.toml')
  const publisher = sdk(server, BLOG)
  const readers = await Promise.all([0, 1, 2].map(async () => {
    const heard = []
    const { channel } = await subscribed(clients.pusher(server, { key: BLOG.key }), 'news')
    channel.bind('n', (n) => heard.push(n))
    return heard
  }))
  const began = performance.now()
  const answers = []
  let isOver = false
  const publishing = async () => {
    // One after the other, since only then is their order the server's to keep.
    for (let n = 0; !isOver; n++) {
      answers.push((await publisher.trigger('news', 'n', n)).status)
      await new Promise((resolve) => setTimeout(resolve, 1000 / RATE))
    }
  }
  const reloading = async () => {
    for (let round = 1; round <= RELOADS; round++) {
      const [result, text] = {
        0: ['refused', `${config(round)}[[apps]`], 1: ['applied', config(round)], 2: ['applied', config(round) + configOf(SHOP)],
      }[round % 3]
      await reloaded(server, result, () => {
        writeFileSync(file, text)
        server.hangUp()
      })
      const enough = answers.length + BETWEEN
      await eventually(() => answers.length >= enough, `${BETWEEN} triggers after reload ${round}`)
    }
  }
  await Promise.all([publishing(), reloading().finally(() => (isOver = true))])
  const failures = answers.filter((status) => status !== 200)
  assert.deepEqual(failures, [])
  const published = answers.length
  for (const heard of readers) {
    await eventually(() => heard.length >= published, 'every event')
    assert.deepEqual(heard, [...Array(published).keys()])
  }
  const seconds = ((performance.now() - began) / 1000).toFixed(1)
  const metrics = (await metricsOf(server)).split('\n').filter((line) => /^soundpost_(reloads|config)/.test(line))
  console.log([`${published} triggers in ${seconds} s, 0 failures, all of them 3 times in order`, ...metrics].join('\n'))
})
