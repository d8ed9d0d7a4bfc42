// The client matrix: every supported pusher-js, every supported Echo over each of them, and two majors of the server
// SDK, all through the same short story. Add a version to the tables and to package.json.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import {
  APP, Clients, Inbox, clientOptions, echoSubscribed, inboxOf, named, reached, sdk, startApplication, startServer,
  subscribed,
} from './harness.mjs'

/** Oldest and newest of what is in use, and where something changed between. */
const PUSHER_JS = ['pusher-js-7.0', 'pusher-js-7.6', 'pusher-js-8.0', 'pusher-js-8.3', 'pusher-js']
const ECHO = ['laravel-echo-1.11', 'laravel-echo-1.15', 'laravel-echo-1.19', 'laravel-echo-2.0', 'laravel-echo']
/** Echo has `broadcaster: 'reverb'` since 1.16; before that Laravel's documentation said `pusher`. */
const WITHOUT_REVERB = ['laravel-echo-1.11', 'laravel-echo-1.15']
const SDKS = [
  { name: 'pusher-4', excluding: (socketId) => socketId, signing: 'authenticate' },
  { name: 'pusher', excluding: (socket_id) => ({ socket_id }), signing: 'authorizeChannel' },
]

/** What the package exports, in whichever of the ways there were. */
async function load(name) {
  const found = await import(name)
  return found.default?.default ?? found.default
}

const clients = new Clients()
let server
let application
let turn = 0

before(async () => {
  server = await startServer()
  application = await startApplication(server)
})
after(async () => {
  clients.close()
  await application?.stop()
  await server?.stop()
})

const channelsOf = async () => (await (await application.sdk.get({ path: '/channels' })).json()).channels

describe('pusher-js', () => {
  for (const name of PUSHER_JS) {
    test(name, async () => {
      const Client = await load(name)
      // Channels of its own, so that no story hears another.
      const [news, chat, room] = [`news-${name}`, `private-chat-${name}`, `presence-room-${name}`]
      const [ada, ben] = ['ada', 'ben'].map((user) => clients.pusher(server, { application, user, Client }))
      await Promise.all([reached(ada, 'connected'), reached(ben, 'connected')])

      const read = await subscribed(ada, news)
      await application.sdk.trigger(news, 'App\\Events\\Posted', { title: 'Zoë' })
      assert.deepEqual(await read.inbox.next(), { event: 'App\\Events\\Posted', data: { title: 'Zoë' } })

      const [mine, theirs] = [await subscribed(ada, chat), await subscribed(ben, chat)]
      await application.sdk.trigger(chat, 'to-others', 1, { socket_id: ada.connection.socket_id })
      await application.sdk.trigger(chat, 'to-all', 2)
      for (const event of ['to-others', 'to-all']) assert.equal((await theirs.inbox.next()).event, event)
      assert.equal((await mine.inbox.next()).event, 'to-all')
      mine.channel.trigger('client-typing', { by: 'ada' })
      assert.deepEqual(await theirs.inbox.next(), { event: 'client-typing', data: { by: 'ada' } })
      theirs.channel.trigger('client-typing', { by: 'ben' })
      assert.deepEqual(await mine.inbox.next(), { event: 'client-typing', data: { by: 'ben' } })
      const refused = inboxOf(ada.subscribe(`private-forged-${name}`))
      await refused.next(named('pusher:subscription_error'))

      const first = await subscribed(ada, room)
      assert.deepEqual(first.roster.members, { ada: { id: 'ada', name: 'ada!' } })
      assert.equal((await subscribed(ben, room)).roster.count, 2)
      const member = { id: 'ben', info: { id: 'ben', name: 'ben!' } }
      assert.deepEqual(await first.inbox.next(), { event: 'pusher:member_added', data: member })
      ben.unsubscribe(room)
      assert.deepEqual(await first.inbox.next(), { event: 'pusher:member_removed', data: member })

      ada.unsubscribe(news)
      await subscribed(ada, `after-${name}`)
      await application.sdk.trigger([news, `after-${name}`], 'unheard', {})
      assert.deepEqual(read.inbox.rest, [])
      assert.ok(!(news in (await channelsOf())))
      ada.disconnect()
      ben.disconnect()
    })
  }
})

/** An Echo as Laravel's `bootstrap.js` makes it, with pusher-js where that version of Echo looks for it. */
function openEcho(Echo, Client, broadcaster, user) {
  const { authEndpoint } = application
  const options = { broadcaster, key: APP.key, ...clientOptions(server), authEndpoint, auth: { headers: { 'X-User': user } } }
  Object.assign(globalThis, { window: globalThis, Pusher: Client })
  try {
    return clients.closing(new Echo(options))
  } finally {
    delete globalThis.window
    delete globalThis.Pusher
  }
}

/** What a listener of Echo's is called with, in an inbox. */
function heard(listen) {
  const inbox = new Inbox()
  listen(inbox.push)
  return inbox
}

for (const name of ECHO) {
  describe(`${name} over`, () => {
    for (const over of PUSHER_JS) {
      test(over, async () => {
        const [Echo, Client] = [await load(name), await load(over)]
        const broadcaster = WITHOUT_REVERB.includes(name) ? 'pusher' : 'reverb'
        turn += 1
        const [news, chat, room] = [`news.${turn}`, `chat.${turn}`, `room.${turn}`]
        const [ada, ben] = ['ada', 'ben'].map((user) => openEcho(Echo, Client, broadcaster, user))
        await Promise.all([ada, ben].map((echo) => reached(echo.connector.pusher, 'connected')))

        const posted = heard((hear) => ada.channel(news).listen('Posted', hear).listen('.other.name', hear))
        await echoSubscribed(ada.channel(news))
        await application.sdk.trigger(news, 'App\\Events\\Posted', { title: 'Zoë' })
        await application.sdk.trigger(news, 'other.name', { title: 'dot' })
        assert.deepEqual([await posted.next(), await posted.next()], [{ title: 'Zoë' }, { title: 'dot' }])

        const sides = [ada, ben].map((echo) => {
          const channel = echo.private(chat)
          const said = heard((hear) => channel.listen('.said', hear))
          return { channel, said, whispers: heard((hear) => channel.listenForWhisper('typing', hear)) }
        })
        await Promise.all(sides.map(({ channel }) => echoSubscribed(channel)))
        const [mine, theirs] = sides
        await application.sdk.trigger(`private-${chat}`, 'said', { to: 'others' }, { socket_id: ada.socketId() })
        await application.sdk.trigger(`private-${chat}`, 'said', { to: 'all' })
        assert.deepEqual([await theirs.said.next(), await theirs.said.next()], [{ to: 'others' }, { to: 'all' }])
        assert.deepEqual(await mine.said.next(), { to: 'all' })
        mine.channel.whisper('typing', { by: 'ada' })
        assert.deepEqual(await theirs.whispers.next(), { by: 'ada' })
        theirs.channel.whisper('typing', { by: 'ben' })
        assert.deepEqual(await mine.whispers.next(), { by: 'ben' })

        const [here, joining, leaving] = [new Inbox(), new Inbox(), new Inbox()]
        ada.join(room).here(here.push).joining(joining.push).leaving(leaving.push)
        assert.deepEqual(await here.next(), [{ id: 'ada', name: 'ada!' }])
        const all = await heard((hear) => ben.join(room).here(hear)).next()
        assert.deepEqual(all.map(({ id }) => id).sort(), ['ada', 'ben'])
        assert.deepEqual(await joining.next(), { id: 'ben', name: 'ben!' })
        ben.leave(room)
        assert.deepEqual(await leaving.next(), { id: 'ben', name: 'ben!' })

        ada.leave(news)
        await echoSubscribed(ada.channel(`after.${turn}`))
        const channels = await channelsOf()
        assert.ok(!(news in channels) && `after.${turn}` in channels)
        assert.deepEqual([posted.rest, mine.said.rest, mine.whispers.rest], [[], [], []])
        ada.disconnect()
        ben.disconnect()
      })
    }
  })
}

describe('the server SDK', () => {
  for (const { name, excluding, signing } of SDKS) {
    test(name, async () => {
      const Sdk = await load(name)
      const publisher = sdk(server, { Sdk, encryptionMasterKeyBase64: Buffer.alloc(32, 7).toString('base64') })
      const member = (id) => ({ user_id: id, user_info: { name: `${id}!` } })
      const [ada, ben] = ['ada', 'ben'].map((user) => {
        const customHandler = ({ socketId, channelName }, done) => {
          const who = channelName.startsWith('presence-') ? member(user) : undefined
          done(null, publisher[signing](socketId, channelName, who))
        }
        return clients.pusher(server, { channelAuthorization: { customHandler } })
      })
      await Promise.all([reached(ada, 'connected'), reached(ben, 'connected')])
      const names = [`sdk-${name}`, `private-sdk-${name}`, `presence-sdk-${name}`]
      const [open, secret, room] = names
      const inboxes = []
      for (const channel of names) inboxes.push((await subscribed(ada, channel)).inbox)
      await subscribed(ben, room)
      await inboxes[2].next(named('pusher:member_added'))

      assert.deepEqual(await (await publisher.trigger(names, 'all', { text: 'Zoë' })).json(), {})
      for (const inbox of inboxes) assert.deepEqual(await inbox.next(), { event: 'all', data: { text: 'Zoë' } })
      await publisher.trigger(open, 'others', {}, excluding(ada.connection.socket_id))
      const batch = ['a', 'b'].map((event) => ({ channel: open, name: event, data: { event } }))
      await publisher.triggerBatch([...batch, { channel: secret, name: 'c', data: 'text' }])
      for (const event of ['a', 'b']) assert.deepEqual(await inboxes[0].next(), { event, data: { event } })
      assert.deepEqual(await inboxes[1].next(), { event: 'c', data: 'text' })

      const { inbox } = await subscribed(ada, `private-encrypted-${name}`)
      await publisher.trigger(`private-encrypted-${name}`, 'secret', { pin: 1234 })
      assert.deepEqual((await inbox.next()).data, { pin: 1234 })

      const get = async (path, params) => (await publisher.get({ path, params })).json()
      const { channels } = await get('/channels', { filter_by_prefix: 'presence-sdk-', info: 'user_count' })
      assert.deepEqual(channels[room], { user_count: 2 })
      const info = 'user_count,subscription_count'
      assert.deepEqual(await get(`/channels/${room}`, { info }), { occupied: true, user_count: 2, subscription_count: 2 })
      assert.deepEqual((await get(`/channels/${room}/users`)).users.map(({ id }) => id).sort(), ['ada', 'ben'])
      await assert.rejects(sdk(server, { Sdk, secret: 'wrong' }).trigger(open, 'e', {}), ({ status }) => status === 401)
      ada.disconnect()
      ben.disconnect()
    })
  }
})
