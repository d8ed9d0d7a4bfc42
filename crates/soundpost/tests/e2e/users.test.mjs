// Users: signing in with pusher-js and Echo, events to one user, watchlists, and being disconnected by the application.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import {
  APP, Clients, Inbox, configOf, eventually, inboxOf, named, reached, startApplication, startServer, subscribed, within,
} from './harness.mjs'

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

/** Every frame of the connection from now on, `pusher_internal:` ones included, as pusher-js decodes them. */
function framesOf(client) {
  const frames = new Inbox()
  client.connection.bind('message', frames.push)
  return frames
}

/** A client that has signed in, and what `pusher.user` and its watchlist emitted. */
async function signedIn(user, options) {
  const client = clients.pusher(server, { application, user, ...options })
  const [inbox, watched, frames] = [inboxOf(client.user), new Inbox(), framesOf(client)]
  client.user.watchlist.bind_global((event, data) => watched.push({ event, ids: data.user_ids }))
  client.signin()
  await frames.next(named('pusher:signin_success'), `sign-in of ${user}`)
  // pusher-js subscribes by itself to the channel of the user's own events.
  const own = ({ event, channel }) => event === 'pusher_internal:subscription_succeeded' && channel === `#server-to-user-${user}`
  await frames.next(own, `channel of ${user}`)
  return { client, inbox, watched, frames }
}

/** Disconnects and waits until the server has seen it: a channel that only this connection was on is empty. */
async function gone({ client }) {
  const name = `mark-${client.connection.socket_id}`
  await subscribed(client, name)
  client.disconnect()
  client.unsubscribe(name)
  const isEmpty = async () => !(await (await application.sdk.get({ path: `/channels/${name}` })).json()).occupied
  await eventually(isEmpty, 'end of the connection')
}

const SHORTLY_UNDER_3_SECONDS = 2900

describe('signing in', () => {
  test('events to a user reach every connection of that user and nobody else', async () => {
    const [first, second, other] = [await signedIn('ada'), await signedIn('ada'), await signedIn('ben')]
    assert.equal(first.client.user.user_data.id, 'ada')
    await application.sdk.sendToUser('ada', 'note', { text: 'Zoë' })
    for (const { inbox } of [first, second]) {
      assert.deepEqual(await inbox.next(named('note')), { event: 'note', data: { text: 'Zoë' } })
    }
    await application.sdk.sendToUser('ben', 'note', { text: 'ben' })
    assert.deepEqual((await other.inbox.next()).data, { text: 'ben' })
  })

  test('a handler of the page signs in as well as an endpoint', async () => {
    const user = { id: 'hal', user_info: { name: 'Hal' } }
    const customHandler = ({ socketId }, done) => done(null, application.sdk.authenticateUser(socketId, user))
    const { client, inbox } = await signedIn('hal', { userAuthentication: { customHandler } })
    await client.user.signinDonePromise
    assert.deepEqual(client.user.user_data, user)
    await application.sdk.sendToUser('hal', 'note', 1)
    assert.equal((await inbox.next()).data, 1)
  })

  test('Echo signs in', async () => {
    const echo = clients.echo(server, { broadcaster: 'reverb', application, user: 'eve' })
    const inbox = inboxOf(echo.connector.pusher.user)
    const frames = framesOf(echo.connector.pusher)
    echo.connector.signin()
    await frames.next(({ channel }) => channel === '#server-to-user-eve', 'channel of eve')
    await application.sdk.sendToUser('eve', 'note', 1)
    assert.equal((await inbox.next()).data, 1)
  })

  test('the channel of a user is for that user, and no query lists it', async () => {
    const { client } = await signedIn('ada')
    const frames = framesOf(client)
    client.send_event('pusher:subscribe', { auth: '', channel: '#server-to-user-ben' })
    const refused = await frames.next(named('pusher:subscription_error'))
    assert.deepEqual([refused.channel, refused.data.type, refused.data.status], ['#server-to-user-ben', 'AuthError', 401])
    const { channels } = await (await application.sdk.get({ path: '/channels' })).json()
    assert.deepEqual(Object.keys(channels).filter((name) => name.startsWith('#')), [])
  })

  test('a bad signature is refused with 4009 and the connection stays', async () => {
    const client = await connected('forged')
    const errors = new Inbox()
    client.connection.bind('error', errors.push)
    client.signin()
    const { type, data } = await errors.next()
    assert.deepEqual([type, data.code], ['PusherError', 4009])
    const { inbox } = await subscribed(client, 'after-refusal')
    await application.sdk.trigger('after-refusal', 'still', {})
    await inbox.next(named('still'))
    assert.equal(client.connection.state, 'connected')
    assert.equal(client.user.user_data, null)
  })

  test('a connection that is signed in cannot become another user', async () => {
    const { client, frames } = await signedIn('ada')
    const auth = application.sdk.authenticateUser(client.connection.socket_id, { id: 'ben' })
    client.send_event('pusher:signin', auth)
    assert.equal((await frames.next(named('pusher:error'))).data.code, 4009)
    await application.sdk.sendToUser('ada', 'still', 1)
    await frames.next(named('still'))
  })

  test('after a reconnect the user is signed in again', async () => {
    const { client, inbox, frames } = await signedIn('ada')
    client.disconnect()
    client.connect()
    await frames.next(({ channel }) => channel === '#server-to-user-ada', 'channel of ada, again')
    await application.sdk.sendToUser('ada', 'again', 1)
    await inbox.next(named('again'))
  })
})

test('a presence channel takes who is signed in when the application names nobody', async () => {
  const withoutMember = (sdk) => ({ socketId, channelName }, done) => done(null, sdk.authorizeChannel(socketId, channelName))
  const channelAuthorization = { customHandler: withoutMember(application.sdk) }
  const watcher = await subscribed(await connected('wim'), 'presence-signed-in')
  const { client } = await signedIn('ada', { channelAuthorization })
  const { channel, roster } = await subscribed(client, 'presence-signed-in')
  assert.equal(roster.myID, 'ada')
  assert.deepEqual(roster.members.ada, { name: 'ada!' })
  assert.deepEqual(channel.members.me, { id: 'ada', info: { name: 'ada!' } })
  const joined = await watcher.inbox.next(named('pusher:member_added'))
  assert.deepEqual(joined.data, { id: 'ada', info: { name: 'ada!' } })
  client.disconnect()
  assert.equal((await watcher.inbox.next(named('pusher:member_removed'))).data.id, 'ada')

  const stranger = await connected('sam', { channelAuthorization })
  const frames = framesOf(stranger)
  const { auth } = application.sdk.authorizeChannel(stranger.connection.socket_id, 'presence-signed-in')
  stranger.send_event('pusher:subscribe', { auth, channel: 'presence-signed-in' })
  assert.equal((await frames.next(named('pusher:subscription_error'))).data.status, 401)
})

describe('watchlists', { concurrency: true }, () => {
  test('the state of all at sign-in, then each change, a reload unseen', async () => {
    const dan = await signedIn('w-dan')
    const { watched, client } = await signedIn('w-ada', { watchlist: ['w-ben', 'w-dan', 'w-ada'] })
    // In this order, each group once; nobody hears of themselves.
    assert.deepEqual(await watched.next(), { event: 'online', ids: ['w-dan'] })
    assert.deepEqual(await watched.next(), { event: 'offline', ids: ['w-ben'] })
    const ben = await signedIn('w-ben')
    assert.deepEqual(await watched.next(), { event: 'online', ids: ['w-ben'] })

    // ben reloads, then dan leaves: when dan's leave is told, ben's would have been told before.
    await gone(ben)
    ben.client.connect()
    await ben.frames.next(named('pusher:signin_success'), 'sign-in after the reload')
    const left = performance.now()
    await gone(dan)
    // Until it is told, it is not so for those who come either.
    const eve = await signedIn('w-eve', { watchlist: ['w-dan'] })
    assert.deepEqual(await eve.watched.next(), { event: 'online', ids: ['w-dan'] })
    assert.deepEqual(await watched.next(), { event: 'offline', ids: ['w-dan'] })
    assert.ok(performance.now() - left >= SHORTLY_UNDER_3_SECONDS)
    assert.deepEqual(await eve.watched.next(), { event: 'offline', ids: ['w-dan'] })
    assert.deepEqual(watched.rest, [])
    assert.equal(client.connection.state, 'connected')
  })

  test('a second connection of a user changes nothing, the end of the last does', async () => {
    const { watched } = await signedIn('x-ada', { watchlist: ['x-ben'] })
    assert.deepEqual(await watched.next(), { event: 'offline', ids: ['x-ben'] })
    const [first, second] = [await signedIn('x-ben'), await signedIn('x-ben')]
    assert.deepEqual(await watched.next(), { event: 'online', ids: ['x-ben'] })
    await gone(first)
    second.client.disconnect()
    assert.deepEqual(await watched.next(), { event: 'offline', ids: ['x-ben'] })
    assert.deepEqual(watched.rest, [])
  })

  test('with watchlists off nobody is told', async (t) => {
    const quiet = await startServer({ config: configOf(APP, { watchlists: false }) })
    t.after(() => quiet.stop())
    const client = clients.pusher(quiet, { application, user: 'ada', watchlist: ['ben'] })
    t.after(() => client.disconnect())
    const frames = framesOf(client)
    client.signin()
    await frames.next(({ channel }) => channel === '#server-to-user-ada', 'channel of ada')
    assert.deepEqual(frames.rest.map(({ event }) => event), ['pusher:signin_success'])
  })

  test('more than a hundred: the first hundred count, and the client is told', async () => {
    const watchlist = Array.from({ length: 101 }, (_, n) => `many-${n}`)
    const { watched, frames } = await signedIn('many', { watchlist })
    assert.deepEqual(await watched.next(), { event: 'offline', ids: watchlist.slice(0, 100) })
    assert.equal((await frames.next(named('pusher:error'))).data.code, 4302)
  })
})

describe('terminateUserConnections', () => {
  test('every connection of the user ends and stays away until the page connects again', async () => {
    const watcher = await signedIn('t-watcher', { watchlist: ['t-ada'] })
    assert.deepEqual(await watcher.watched.next(), { event: 'offline', ids: ['t-ada'] })
    const all = [await signedIn('t-ada'), await signedIn('t-ada')]
    assert.deepEqual(await watcher.watched.next(), { event: 'online', ids: ['t-ada'] })
    const other = await signedIn('t-ben')
    const errors = all.map(({ client }) => {
      const inbox = new Inbox()
      client.connection.bind('error', inbox.push)
      return inbox
    })
    assert.deepEqual(await (await application.sdk.terminateUserConnections('t-ada')).json(), {})
    for (const { client } of all) await reached(client, 'disconnected')
    for (const inbox of errors) assert.equal((await inbox.next()).data.code, 4009)
    // Nobody came back in the three seconds that a user may be away unseen, thrice what pusher-js waits at most.
    assert.deepEqual(await watcher.watched.next(), { event: 'offline', ids: ['t-ada'] })
    for (const { client } of all) assert.equal(client.connection.state, 'disconnected')
    assert.equal(other.client.connection.state, 'connected')

    all[0].client.connect()
    await all[0].frames.next(named('pusher:signin_success'))
    assert.deepEqual(await watcher.watched.next(), { event: 'online', ids: ['t-ada'] })
  })

  test('a member of a presence channel who never signed in is ended too, as by Reverb', async () => {
    const [ada, ben] = [await connected('p-ada'), await connected('p-ben')]
    const room = await subscribed(ben, 'presence-terminated')
    await subscribed(ada, 'presence-terminated')
    await room.inbox.next(named('pusher:member_added'))
    await application.sdk.terminateUserConnections('p-ada')
    await reached(ada, 'disconnected')
    assert.equal((await room.inbox.next(named('pusher:member_removed'))).data.id, 'p-ada')
    assert.equal(ben.connection.state, 'connected')
  })

  test('nobody there is no error', async () => {
    assert.deepEqual(await (await application.sdk.terminateUserConnections('nobody')).json(), {})
  })
})

test('with authorized_timeout_seconds only those stay who signed in or joined what needs a signature', async (t) => {
  const strict = await startServer({ config: configOf(APP, { authorized_timeout_seconds: 2 }) })
  t.after(() => strict.stop())
  const there = await startApplication(strict)
  t.after(() => there.stop())
  const client = (user) => clients.pusher(strict, { application: there, user })
  const [user, member, idle] = ['ada', 'ben', 'cy'].map(client)
  user.signin()
  await subscribed(member, 'private-orders')
  const { inbox } = await subscribed(user, 'orders')
  await subscribed(idle, 'orders')
  const errors = new Inbox()
  idle.connection.bind('error', errors.push)
  await reached(idle, 'disconnected')
  assert.equal((await errors.next()).data.code, 4009)
  // Opened after those that must stay, so their time has passed as well.
  const late = client('dan')
  await reached(late, 'connected')
  await within(new Promise((resolve) => late.connection.bind('disconnected', resolve)), 'end of another idle connection')
  await there.sdk.trigger('orders', 'still', {})
  await inbox.next(named('still'))
  assert.deepEqual([user, member].map(({ connection }) => connection.state), ['connected', 'connected'])
})
