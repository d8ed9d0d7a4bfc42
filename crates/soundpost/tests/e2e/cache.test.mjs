// Cache channels: pusher-js as the newcomer, the npm SDK as the publisher.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import {
  APP, Clients, configOf, eventually, inboxOf, named, reached, startApplication, startServer, subscribed,
} from './harness.mjs'

/** A cache channel of every kind. */
const KINDS = ['cache-', 'private-cache-', 'presence-cache-', 'private-encrypted-cache-']
const PLACE = { lat: 52.5, name: 'Zoë' }

const clients = new Clients()
let server
let application

before(async () => {
  server = await startServer()
  application = await startApplication(server)
})
after(async () => {
  clients.close()
  await application?.stop()
  await server?.stop()
})

const connected = async (user, from = server) => {
  const client = clients.pusher(from, { application, user })
  await reached(client, 'connected')
  return client
}
const get = async (path, params) => (await application.sdk.get({ path, params })).json()

/** Subscribes and gives back the first two things that the channel emits: its success, and the event kept or a miss. */
async function firstTwo(client, name) {
  const inbox = inboxOf(client.subscribe(name))
  return { inbox, events: [await inbox.next(), await inbox.next()] }
}

for (const kind of KINDS) {
  test(`${kind}: a newcomer gets the last event, or hears of a miss, right after its success`, async () => {
    const name = `${kind}place`
    const first = await firstTwo(await connected('ada'), name)
    assert.deepEqual(first.events.map(({ event }) => event), ['pusher:subscription_succeeded', 'pusher:cache_miss'])
    assert.deepEqual(first.events[1].data, {})

    for (const data of [{ old: true }, PLACE]) await application.sdk.trigger(name, 'moved', data)
    assert.deepEqual(await first.inbox.next(named('moved')), { event: 'moved', data: { old: true } })
    const newcomer = await firstTwo(await connected('ben'), name)
    assert.equal(newcomer.events[0].event, 'pusher:subscription_succeeded')
    assert.deepEqual(newcomer.events[1], { event: 'moved', data: PLACE })
    // The one who was there gets each event once, and nothing because somebody came.
    assert.deepEqual(await first.inbox.next(named('moved')), { event: 'moved', data: PLACE })
    await application.sdk.trigger(name, 'last', {})
    await first.inbox.next(named('last'))
    assert.deepEqual(first.inbox.rest.filter(({ event }) => event !== 'pusher:member_added'), [])
  })
}

test('an event is kept though a connection is left out of it, and by a batch too', async () => {
  const ada = await connected('ada')
  await firstTwo(ada, 'cache-excluded')
  await application.sdk.trigger('cache-excluded', 'moved', 1, { socket_id: ada.connection.socket_id })
  const batch = ['a', 'b'].map((name) => ({ channel: 'cache-batch', name, data: {} }))
  await application.sdk.triggerBatch(batch)
  assert.equal((await firstTwo(await connected('ben'), 'cache-excluded')).events[1].event, 'moved')
  assert.equal((await firstTwo(await connected('ben'), 'cache-batch')).events[1].event, 'b')
})

test('an event published to nobody is kept for the first who comes', async () => {
  await application.sdk.trigger('cache-early', 'moved', PLACE)
  assert.deepEqual((await firstTwo(await connected('ada'), 'cache-early')).events[1], { event: 'moved', data: PLACE })
})

test('the last event survives that everybody leaves', async () => {
  const ada = await connected('ada')
  await subscribed(ada, 'cache-left')
  await application.sdk.trigger('cache-left', 'moved', PLACE)
  ada.disconnect()
  await eventually(async () => !(await get('/channels/cache-left')).occupied, 'empty channel')
  assert.deepEqual((await firstTwo(await connected('ben'), 'cache-left')).events[1], { event: 'moved', data: PLACE })
})

test('client events are relayed but not kept', async () => {
  for (const name of ['private-cache-typing', 'presence-cache-typing']) {
    const [from, to] = [await connected('ada'), await connected('ben')]
    const { channel } = await subscribed(from, name)
    const { inbox } = await subscribed(to, name)
    channel.trigger('client-typing', { on: true })
    await inbox.next(named('client-typing'))
    assert.equal((await firstTwo(await connected('cy'), name)).events[1].event, 'pusher:cache_miss', name)

    await application.sdk.trigger(name, 'kept', {})
    channel.trigger('client-typing', { on: false })
    await inbox.next(named('client-typing'))
    assert.equal((await firstTwo(await connected('dan'), name)).events[1].event, 'kept', name)
  }
})

test('a channel whose name merely contains "cache-" keeps nothing and speaks of no miss', async () => {
  const ada = await connected('ada')
  for (const name of ['my-cache-x', 'cached']) {
    await application.sdk.trigger(name, 'before', {})
    const { inbox } = await subscribed(ada, name)
    await application.sdk.trigger(name, 'after', {})
    assert.equal((await inbox.next()).event, 'after', name)
  }
})

test('the HTTP API says what is kept and for how long', async () => {
  const info = 'cache'
  await subscribed(await connected('ada'), 'cache-asked')
  assert.deepEqual(await get('/channels/cache-asked', { info }), { occupied: true, cache: null })
  await application.sdk.trigger('cache-asked', 'moved', PLACE)
  const { occupied, cache } = await get('/channels/cache-asked', { info: 'subscription_count,cache' })
  assert.equal(occupied, true)
  assert.deepEqual(JSON.parse(cache.data), PLACE)
  assert.ok(Number.isInteger(cache.ttl) && cache.ttl > 1700 && cache.ttl <= 1800, `${cache.ttl}`)

  await application.sdk.trigger('cache-nobody', 'moved', 'text')
  const kept = await get('/channels/cache-nobody', { info })
  assert.deepEqual([kept.occupied, kept.cache.data], [false, 'text'])
  assert.deepEqual(await get('/channels/orders', { info }), { occupied: false }, 'not a cache channel')
})

test('a kept event has its time', async (t) => {
  const brief = await startServer({ config: configOf(APP, { cache_ttl_seconds: 2 }) })
  t.after(() => brief.stop())
  const there = await startApplication(brief)
  t.after(() => there.stop())
  const kept = async () => {
    const answer = await there.sdk.get({ path: '/channels/cache-brief', params: { info: 'cache' } })
    return (await answer.json()).cache
  }
  const published = performance.now()
  await there.sdk.trigger('cache-brief', 'moved', PLACE)
  await eventually(async () => (await kept()) === null, 'end of the kept event')
  assert.ok(performance.now() - published >= 1999)
  const [ada, ben] = [await connected('ada', brief), await connected('ben', brief)]
  assert.equal((await firstTwo(ada, 'cache-brief')).events[1].event, 'pusher:cache_miss')
  await there.sdk.trigger('cache-brief', 'moved', PLACE)
  assert.equal((await firstTwo(ben, 'cache-brief')).events[1].event, 'moved')
})
