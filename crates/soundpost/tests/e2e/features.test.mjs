// What an app switches on or bounds: counts of subscribers, held leaves, channels per connection, several apps.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  APP, Clients, Inbox, configOf, eventually, inboxOf, named, reached, sdk, startApplication, startServer, subscribed,
} from './harness.mjs'

/** A server with `config`, its application, and pusher-js clients; all end with the test. */
async function stage(t, config, app = APP) {
  const server = await startServer({ config })
  t.after(() => server.stop())
  const application = await startApplication(server, {}, app)
  t.after(() => application.stop())
  const clients = new Clients()
  t.after(() => clients.close())
  const connected = async (user, options) => {
    const client = clients.pusher(server, { application, user, ...options })
    await reached(client, 'connected')
    return client
  }
  const get = async (path, params) => (await application.sdk.get({ path, params })).json()
  return { server, application, connected, get, sdk: application.sdk }
}

const counted = named('pusher:subscription_count')

test('subscription_count: every subscriber is told on each change, presence channels are not', async (t) => {
  const { connected, sdk } = await stage(t, configOf(APP, { subscription_count: true }))
  const [ada, ben] = [await connected('ada'), await connected('ben')]
  for (const name of ['counted', 'private-counted', 'cache-counted']) {
    const channel = ada.subscribe(name)
    const inbox = inboxOf(channel)
    const miss = name.startsWith('cache-') ? ['pusher:cache_miss'] : []
    for (const event of ['pusher:subscription_succeeded', ...miss]) assert.equal((await inbox.next()).event, event, name)
    assert.deepEqual(await inbox.next(), { event: 'pusher:subscription_count', data: { subscription_count: 1 } }, name)
    const other = inboxOf(ben.subscribe(name))
    assert.deepEqual((await other.next(counted)).data, { subscription_count: 2 }, name)
    assert.deepEqual((await inbox.next(counted)).data, { subscription_count: 2 }, name)
    assert.equal(channel.subscriptionCount, 2, name)
    ben.unsubscribe(name)
    assert.deepEqual((await inbox.next(counted)).data, { subscription_count: 1 }, name)
  }
  const room = await subscribed(ada, 'presence-counted')
  await subscribed(ben, 'presence-counted')
  await room.inbox.next(named('pusher:member_added'))
  await sdk.trigger('presence-counted', 'last', {})
  assert.equal((await room.inbox.next()).event, 'last')

  // Not by unsubscribing but with the connection.
  const { inbox } = await subscribed(ada, 'counted-close')
  await subscribed(ben, 'counted-close')
  await inbox.next(({ event, data }) => event === 'pusher:subscription_count' && data.subscription_count === 2)
  ben.disconnect()
  await inbox.next(({ event, data }) => event === 'pusher:subscription_count' && data.subscription_count === 1)
})

test('subscription_count: above a hundred the last value comes, if not each', async (t) => {
  const { connected } = await stage(t, configOf(APP, { subscription_count: true }))
  const { inbox } = await subscribed(await connected('ada'), 'busy')
  // Not all at once: a client that is not connected within its own time begins anew.
  for (let round = 0; round < 7; round += 1) {
    await Promise.all(Array.from({ length: 17 }, async (_, n) => subscribed(await connected(`u${round}-${n}`), 'busy')))
  }
  await inbox.next(({ event, data }) => event === 'pusher:subscription_count' && data.subscription_count === 120)
  const told = inbox.rest.filter(counted).map(({ data }) => data.subscription_count)
  assert.deepEqual(told.slice(0, 100), Array.from({ length: 100 }, (_, n) => n + 1))
  assert.ok(told.length < 105, `told ${told.length} times`)
})

test('subscription_count: off unless it is switched on', async (t) => {
  const { connected, sdk } = await stage(t)
  const { inbox } = await subscribed(await connected('ada'), 'orders')
  const ben = await connected('ben')
  await subscribed(ben, 'orders')
  await sdk.trigger('orders', 'last', {})
  assert.equal((await inbox.next()).event, 'last')
})

test('presence_leave_hold: a reload is not seen, a leave is told once', async (t) => {
  const HOLD = 3000
  const config = configOf(APP, { presence_leave_hold_milliseconds: HOLD })
  const { connected, get } = await stage(t, config)
  const connections = async () => (await get('/connections')).connections
  const gone = async (client) => {
    const before = await connections()
    client.disconnect()
    await eventually(async () => (await connections()) < before, 'end of the connection')
  }
  const { channel, inbox } = await subscribed(await connected('ada'), 'presence-room')
  const [ben, cy, dan] = [await connected('ben'), await connected('cy'), await connected('dan')]
  const rooms = new Map()
  for (const client of [ben, cy, dan]) {
    rooms.set(client, await subscribed(client, 'presence-room'))
    await inbox.next(named('pusher:member_added'))
  }

  // ben reloads the page; cy leaves by closing, dan by unsubscribing. All before ben's time would have been over.
  await gone(ben)
  ben.connect()
  const back = await rooms.get(ben).inbox.next(named('pusher:subscription_succeeded'), 'subscription after the reload')
  assert.deepEqual(Object.keys(back.data.members).sort(), ['ada', 'ben', 'cy', 'dan'])
  const left = performance.now()
  await gone(cy)
  assert.equal((await get('/channels/presence-room', { info: 'user_count' })).user_count, 4, 'still counted')
  dan.unsubscribe('presence-room')
  const leaves = [await inbox.next(), await inbox.next()]
  assert.ok(performance.now() - left >= HOLD - 100)
  const told = leaves.map(({ event, data }) => [event, data.id])
  assert.deepEqual(told, [['pusher:member_removed', 'cy'], ['pusher:member_removed', 'dan']])
  assert.deepEqual(inbox.rest, [])
  assert.deepEqual(Object.keys(channel.members.members).sort(), ['ada', 'ben'])
  assert.equal((await get('/channels/presence-room', { info: 'user_count' })).user_count, 2)

  // Who comes back after that is new, and is told of as new.
  await subscribed(await connected('cy'), 'presence-room')
  assert.equal((await inbox.next(named('pusher:member_added'))).data.id, 'cy')

  // Who comes to a channel that everybody has left, but not for long enough, sees who may come back, and who does not.
  ben.subscribe('presence-alone')
  await eventually(async () => (await get('/channels/presence-alone')).occupied, 'member')
  await gone(ben)
  const alone = await subscribed(dan, 'presence-alone')
  assert.deepEqual(Object.keys(alone.roster.members).sort(), ['ben', 'dan'])
  const { event, data } = await alone.inbox.next()
  assert.deepEqual([event, data.id], ['pusher:member_removed', 'ben'])
})

test('presence_leave_hold: who leaves and comes back on the same connection is there like everybody', async (t) => {
  const { connected, get } = await stage(t, configOf(APP, { presence_leave_hold_milliseconds: 3000 }))
  const { inbox } = await subscribed(await connected('ada'), 'presence-room')
  const ben = await connected('ben')
  await subscribed(ben, 'presence-room')
  await inbox.next(named('pusher:member_added'))
  // A page that is changed without being loaded anew, as Echo's React hooks do it.
  ben.unsubscribe('presence-room')
  const back = await subscribed(ben, 'presence-room')
  assert.deepEqual(Object.keys(back.roster.members).sort(), ['ada', 'ben'])

  const cy = await subscribed(await connected('cy'), 'presence-room')
  assert.deepEqual(Object.keys(cy.roster.members).sort(), ['ada', 'ben', 'cy'])
  assert.equal((await inbox.next()).data.id, 'cy')
  assert.equal((await get('/channels/presence-room', { info: 'user_count' })).user_count, 3)
  ben.disconnect()
  const { event, data } = await inbox.next()
  assert.deepEqual([event, data.id], ['pusher:member_removed', 'ben'])
})

test('channels_per_connection_max: one more is refused, until one is left', async (t) => {
  const { connected, application } = await stage(t, configOf(APP, { channels_per_connection_max: 2 }))
  const ada = await connected('ada')
  const errors = new Inbox()
  ada.connection.bind('error', errors.push)
  const { inbox } = await subscribed(ada, 'one')
  await subscribed(ada, 'private-two')
  for (const name of ['three', 'private-three', 'presence-three']) {
    const { data } = await inboxOf(ada.subscribe(name)).next(named('pusher:subscription_error'))
    assert.deepEqual([data.type, data.status], ['LimitReached', 4100], name)
    assert.match(data.error, /channels_per_connection_max/)
    assert.equal((await errors.next()).data.code, 4100, name)
  }
  await application.sdk.trigger('one', 'still', {})
  await inbox.next(named('still'))
  ada.unsubscribe('one')
  await subscribed(ada, 'four')
  assert.equal(ada.connection.state, 'connected')
})

test('two apps never see each other', async (t) => {
  const apps = ['a', 'b'].map((id) => ({ appId: id, key: `key-of-${id}`, secret: `secret-of-app-${id}` }))
  const settings = { subscription_count: true, presence_leave_hold_milliseconds: 0 }
  const { server, connected } = await stage(t, apps.map((app) => configOf(app, settings)).join('\n'), apps[0])
  const sides = []
  for (const app of apps) {
    const application = await startApplication(server, {}, app)
    t.after(() => application.stop())
    const client = await connected('ada', { application, key: app.key, watchlist: ['ben'] })
    const inboxes = {}
    for (const name of ['orders', 'private-orders', 'cache-orders']) inboxes[name] = (await subscribed(client, name)).inbox
    const watched = new Inbox()
    client.user.watchlist.bind_global((event, { user_ids }) => watched.push({ event, user_ids }))
    const user = inboxOf(client.user)
    client.signin()
    await client.user.signinDonePromise
    await watched.next(named('offline'))
    const get = async (path, params) => (await application.sdk.get({ path, params })).json()
    sides.push({ app, application, client, inboxes, watched, user, get })
  }
  const [a, b] = sides

  // Presence, with the same user on both sides, and one more on one side.
  for (const side of sides) side.room = await subscribed(side.client, 'presence-room')
  for (const { room } of sides) assert.equal(room.roster.count, 1)
  const ben = await connected('ben', { application: a.application, key: a.app.key })
  ben.signin()
  assert.equal((await subscribed(ben, 'presence-room')).roster.count, 2)
  assert.equal((await a.room.inbox.next(named('pusher:member_added'))).data.id, 'ben')
  assert.deepEqual(await a.watched.next(), { event: 'online', user_ids: ['ben'] })

  // Client events, events to a channel, to a user, into a cache.
  const chat = await subscribed(ben, 'private-orders')
  chat.channel.trigger('client-typing', {})
  await a.inboxes['private-orders'].next(named('client-typing'))
  await a.application.sdk.trigger(['orders', 'private-orders', 'cache-orders', 'presence-room'], 'event', { of: 'a' })
  await a.application.sdk.sendToUser('ada', 'note', { of: 'a' })
  await a.user.next(named('note'))
  for (const inbox of Object.values(a.inboxes)) await inbox.next(named('event'))
  assert.equal((await a.get('/channels/cache-orders', { info: 'cache' })).cache.data, '{"of":"a"}')
  assert.equal((await b.get('/channels/cache-orders', { info: 'cache' })).cache, null)

  // Queries, and terminating the user that both have.
  await subscribed(a.client, 'only-of-a')
  assert.ok('only-of-a' in (await a.get('/channels')).channels)
  assert.ok(!('only-of-a' in (await b.get('/channels')).channels))
  assert.deepEqual([(await a.get('/connections')).connections, (await b.get('/connections')).connections], [2, 1])
  assert.equal((await a.get('/channels/presence-room', { info: 'user_count' })).user_count, 2)
  assert.equal((await b.get('/channels/presence-room', { info: 'user_count' })).user_count, 1)
  await a.application.sdk.terminateUserConnections('ada')
  await reached(a.client, 'disconnected')

  // A key and a secret are good for their own app alone.
  for (const mixed of [{ ...a.app, appId: 'b' }, { ...a.app, secret: b.app.secret }]) {
    await assert.rejects(sdk(server, mixed).trigger('orders', 'event', {}), ({ status }) => status === 401)
  }
  const signedByA = ({ socketId, channelName }, done) =>
    done(null, a.application.sdk.authorizeChannel(socketId, channelName))
  const stranger = await connected('eve', { key: b.app.key, channelAuthorization: { customHandler: signedByA } })
  const { data } = await inboxOf(stranger.subscribe('private-orders')).next(named('pusher:subscription_error'))
  assert.equal(data.status, 401)

  // Of all this the other side has seen nothing; each of its inboxes is closed by an event of its own.
  assert.equal(b.client.connection.state, 'connected')
  await b.application.sdk.trigger([...Object.keys(b.inboxes), 'presence-room'], 'last', {})
  await b.application.sdk.sendToUser('ada', 'last', {})
  for (const [name, inbox] of [...Object.entries(b.inboxes), ['presence-room', b.room.inbox], ['user', b.user]]) {
    await inbox.next(named('last'))
    const told = inbox.rest.filter(({ event }) => !['pusher:subscription_count', 'pusher:cache_miss'].includes(event))
    assert.deepEqual(told, [], name)
    assert.ok(inbox.rest.filter(counted).every(({ data }) => data.subscription_count === 1), name)
  }
  assert.deepEqual(b.watched.rest, [])
})
