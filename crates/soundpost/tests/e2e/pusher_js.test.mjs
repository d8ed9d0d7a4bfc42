// pusher-js, unmodified: connecting, every kind of channel, refusals, liveness, restarts.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import {
  APP, Clients, Inbox, configOf, inboxOf, named, reached, startApplication, startFront, startServer, subscribed,
} from './harness.mjs'
import { freePort } from './ports.mjs'

describe('pusher-js', () => {
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

  const connected = async (user, options) => {
    const client = clients.pusher(server, { application, user, ...options })
    await reached(client, 'connected')
    return client
  }

  test('a connection gets a socket id that SDKs accept', async () => {
    const client = await connected('ada')
    assert.match(client.connection.socket_id, /^\d+\.\d+$/)
  })

  test('a public channel delivers events as they were triggered, in order', async () => {
    const client = await connected('ada')
    const { inbox } = await subscribed(client, 'orders')
    const values = [{ id: 1, name: 'Zoë' }, 'text', 7, null, [], {}, { nested: { '\u2028': ['"', '\\'] } }]
    for (const value of values) await application.sdk.trigger('orders', 'App\\Events\\OrderShipped', value)
    for (const value of values) {
      const { event, data } = await inbox.next()
      assert.equal(event, 'App\\Events\\OrderShipped')
      assert.deepEqual(data, value)
    }
  })

  test('after unsubscribe nothing more arrives on the channel', async () => {
    const client = await connected('ada')
    const { inbox } = await subscribed(client, 'left')
    const kept = await subscribed(client, 'kept')
    client.unsubscribe('left')
    // The reply to another subscription shows that the server has read the unsubscribe before it.
    await subscribed(client, 'after-left')
    await application.sdk.trigger(['left', 'kept'], 'news', 1)
    await kept.inbox.next(named('news'))
    assert.deepEqual(inbox.rest, [])
  })

  test('private channels: subscribed with a signature, refused without a good one', async () => {
    const client = await connected('ada')
    const { inbox } = await subscribed(client, 'private-orders.1')
    await application.sdk.trigger('private-orders.1', 'paid', { id: 1 })
    assert.deepEqual((await inbox.next(named('paid'))).data, { id: 1 })

    for (const [name, status] of [['private-forbidden', 403], ['private-forged', 401]]) {
      const refused = inboxOf(client.subscribe(name))
      const { data } = await refused.next(named('pusher:subscription_error'))
      assert.equal(data.type, 'AuthError', name)
      assert.equal(data.status, status, name)
    }
    assert.equal(client.connection.state, 'connected')
  })

  test('presence channels: a roster, joins and leaves once per user', async () => {
    const ada = await connected('ada')
    const first = await subscribed(ada, 'presence-room.1')
    assert.equal(first.roster.count, 1)
    assert.equal(first.roster.myID, 'ada')
    assert.deepEqual(first.roster.members, { ada: { id: 'ada', name: 'ada!' } })

    const ben = await connected('ben')
    const second = await subscribed(ben, 'presence-room.1')
    assert.deepEqual(Object.keys(second.roster.members).sort(), ['ada', 'ben'])
    const joined = await first.inbox.next(named('pusher:member_added'))
    assert.deepEqual(joined.data, { id: 'ben', info: { id: 'ben', name: 'ben!' } })

    // A second tab of ben's neither joins nor, when it closes, leaves.
    const tab = await connected('ben')
    assert.equal((await subscribed(tab, 'presence-room.1')).roster.count, 2)
    tab.disconnect()
    ben.disconnect()
    assert.equal((await first.inbox.next(named('pusher:member_removed'))).data.id, 'ben')
    assert.deepEqual(first.inbox.rest, [])
    assert.equal(first.channel.members.count, 1)
  })

  test('client events reach the others with their data as sent, and never the sender', async () => {
    const [ada, ben] = [await connected('ada'), await connected('ben')]
    const [from, to] = [await subscribed(ada, 'private-chat'), await subscribed(ben, 'private-chat')]
    for (const data of [{ on: true }, {}, [1], 'text', 7, null]) {
      from.channel.trigger('client-typing', data)
      assert.deepEqual((await to.inbox.next(named('client-typing'))).data, data)
    }
    await application.sdk.trigger('private-chat', 'last', {})
    await from.inbox.next(named('last'))
    assert.deepEqual(from.inbox.rest, [])
  })

  test('a client event on a presence channel says who sent it', async () => {
    const [ada, ben] = [await connected('ada'), await connected('ben')]
    const from = await subscribed(ada, 'presence-chat')
    const to = await subscribed(ben, 'presence-chat')
    const got = new Inbox()
    to.channel.bind('client-typing', (data, metadata) => got.push({ data, metadata }))
    from.channel.trigger('client-typing', { on: true })
    assert.deepEqual(await got.next(), { data: { on: true }, metadata: { user_id: 'ada' } })
  })

  test('encrypted channels: the server carries what it cannot read', async () => {
    const client = await connected('ada')
    const { inbox } = await subscribed(client, 'private-encrypted-vault')
    await application.sdk.trigger('private-encrypted-vault', 'secret', { pin: 1234 })
    assert.deepEqual((await inbox.next(named('secret'))).data, { pin: 1234 })
  })

  test('an unknown key is refused with 4001 and the client stays away', async () => {
    const client = clients.pusher(server, { key: 'no-such-key' })
    const errors = new Inbox()
    client.connection.bind('error', errors.push)
    await reached(client, 'disconnected')
    const { data } = (await errors.next()).error ?? (await errors.next())
    assert.equal(data.code, 4001)
  })

  test('an idle client pings, is answered, and stays connected', async () => {
    const client = await connected('ada', { activityTimeout: 200, pongTimeout: 10_000 })
    const messages = new Inbox()
    const states = new Inbox()
    client.connection.bind('message', messages.push)
    client.connection.bind('state_change', states.push)
    for (let pongs = 0; pongs < 5; pongs += 1) await messages.next(named('pusher:pong'))
    assert.deepEqual(states.rest, [])
  })
})

test('the server pings a silent client, whose pong keeps the connection', async (t) => {
  // Who has not answered a ping is sent no other, so the third shows that two were answered, however late.
  const config = configOf(APP, { ping_interval_seconds: 1, pong_timeout_seconds: 30 })
  const server = await startServer({ config })
  t.after(() => server.stop())
  const clients = new Clients()
  t.after(() => clients.close())
  const client = clients.pusher(server)
  await reached(client, 'connected')
  const messages = new Inbox()
  const states = new Inbox()
  client.connection.bind('message', messages.push)
  client.connection.bind('state_change', states.push)
  for (let pings = 0; pings < 3; pings += 1) await messages.next(named('pusher:ping'))
  assert.deepEqual(states.rest, [])
})

test('after a restart of the server clients come back by themselves and are subscribed again', async (t) => {
  const quick = { SOUNDPOST_SERVER__DRAIN_SECONDS: '1' }
  const first = await startServer({ port: await freePort(), env: quick })
  t.after(() => first.stop())
  const application = await startApplication(first)
  t.after(() => application.stop())
  const clients = new Clients()
  t.after(() => clients.close())

  const front = await startFront(first)
  t.after(() => front.stop())
  const client = clients.pusher(front, { application, user: 'ada' })
  const { inbox } = await subscribed(client, 'private-orders')
  const errors = new Inbox()
  client.connection.bind('error', errors.push)
  const left = new Promise((resolve) => client.connection.bind('connecting', resolve))
  await first.drain()
  await left
  const goodbye = await errors.next(({ data, error }) => (data ?? error?.data)?.code === 4200, 'goodbye with 4200')
  assert.ok(goodbye)

  const second = await startServer({ port: first.port, env: quick })
  t.after(() => second.stop())
  // Three times pusher-js's own 15 seconds, for the rare connection that dies with the first server's listener.
  await inbox.next(named('pusher:subscription_succeeded'), 'subscription after the restart', 45_000)
  await application.sdk.trigger('private-orders', 'paid', { id: 2 })
  assert.deepEqual((await inbox.next(named('paid'))).data, { id: 2 })
})
