// Laravel Echo, unmodified, with both broadcasters that speak this protocol: what an application does with it.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import Echo from 'laravel-echo'
import {
  APP, Clients, Inbox, Pusher, clientOptions, echoSubscribed, reached, startApplication, startServer,
} from './harness.mjs'

for (const broadcaster of ['reverb', 'pusher']) {
  describe(`Echo with broadcaster ${broadcaster}`, () => {
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

    const echoOf = async (user) => {
      const echo = clients.echo(server, { broadcaster, application, user })
      await reached(echo.connector.pusher, 'connected')
      return echo
    }

    test('listen: names with a dot are taken as they are, others get the namespace', async () => {
      const echo = await echoOf('ada')
      const [named, namespaced, all] = [new Inbox(), new Inbox(), new Inbox()]
      const channel = echo.channel('orders').listen('.order.shipped', named.push).listen('Order.Shipped', namespaced.push)
      channel.listenToAll((event, data) => all.push({ event, data }))
      await echoSubscribed(channel)
      await application.sdk.trigger('orders', 'order.shipped', { id: 1 })
      await application.sdk.trigger('orders', 'App\\Events\\Order\\Shipped', { id: 2 })
      assert.deepEqual(await named.next(), { id: 1 })
      assert.deepEqual(await namespaced.next(), { id: 2 })
      assert.deepEqual(await all.next(), { event: '.order.shipped', data: { id: 1 } })
    })

    test('private and notification: what Laravel sends to a user', async () => {
      const echo = await echoOf('ada')
      const notifications = new Inbox()
      const channel = echo.private('App.Models.User.1').notification(notifications.push)
      await echoSubscribed(channel)
      const note = { id: 'a-uuid', type: 'App\\Notifications\\InvoicePaid', amount: 12 }
      const event = 'Illuminate\\Notifications\\Events\\BroadcastNotificationCreated'
      await application.sdk.trigger('private-App.Models.User.1', event, note)
      assert.deepEqual(await notifications.next(), note)
    })

    test('join: here, joining, leaving', async () => {
      const [ada, ben] = [await echoOf('ada'), await echoOf('ben')]
      const [here, joining, leaving] = [new Inbox(), new Inbox(), new Inbox()]
      ada.join('room').here(here.push).joining(joining.push).leaving(leaving.push)
      assert.deepEqual(await here.next(), [{ id: 'ada', name: 'ada!' }])
      const room = ben.join('room')
      const all = new Inbox()
      room.here(all.push)
      assert.deepEqual((await all.next()).map(({ id }) => id).sort(), ['ada', 'ben'])
      assert.deepEqual(await joining.next(), { id: 'ben', name: 'ben!' })
      ben.leave('room')
      assert.deepEqual(await leaving.next(), { id: 'ben', name: 'ben!' })
    })

    test('whisper reaches the others of a private and of a presence channel', async () => {
      const [ada, ben] = [await echoOf('ada'), await echoOf('ben')]
      for (const open of [(echo) => echo.private('chat'), (echo) => echo.join('chat')]) {
        const [from, to] = [open(ada), open(ben)]
        const [heard, own] = [new Inbox(), new Inbox()]
        to.listenForWhisper('typing', heard.push)
        from.listenForWhisper('typing', own.push)
        await Promise.all([echoSubscribed(from), echoSubscribed(to)])
        from.whisper('typing', { name: 'ada' })
        assert.deepEqual(await heard.next(), { name: 'ada' })
        assert.deepEqual(own.rest, [])
      }
    })

    test('toOthers: the connection named by X-Socket-ID gets nothing', async () => {
      const [ada, ben] = [await echoOf('ada'), await echoOf('ben')]
      const [mine, theirs] = [new Inbox(), new Inbox()]
      const channels = [ada.private('news').listen('.posted', mine.push), ben.private('news').listen('.posted', theirs.push)]
      await Promise.all(channels.map(echoSubscribed))
      await application.sdk.trigger('private-news', 'posted', { to: 'others' }, { socket_id: ada.socketId() })
      await application.sdk.trigger('private-news', 'posted', { to: 'all' })
      assert.deepEqual(await theirs.next(), { to: 'others' })
      assert.deepEqual(await theirs.next(), { to: 'all' })
      assert.deepEqual(await mine.next(), { to: 'all' })
    })

    test('error: told when the application or the server refuses', async () => {
      const echo = await echoOf('ada')
      for (const [name, status] of [['forbidden', 403], ['forged', 401]]) {
        const errors = new Inbox()
        echo.private(name).error(errors.push)
        assert.equal((await errors.next()).status, status, name)
      }
    })

    test('encryptedPrivate: decrypted in the client', async () => {
      const echo = await echoOf('ada')
      const got = new Inbox()
      await echoSubscribed(echo.encryptedPrivate('vault').listen('.secret', got.push))
      await application.sdk.trigger('private-encrypted-vault', 'secret', { pin: 1234 })
      assert.deepEqual(await got.next(), { pin: 1234 })
    })

    test('leave: every kind of that name is unsubscribed', async () => {
      const echo = await echoOf('ada')
      await Promise.all([echo.channel('all'), echo.private('all'), echo.join('all')].map(echoSubscribed))
      echo.leave('all')
      await echoSubscribed(echo.channel('after-all'))
      const { channels } = await (await application.sdk.get({ path: '/channels' })).json()
      assert.ok('after-all' in channels)
      for (const name of ['all', 'private-all', 'presence-all']) assert.ok(!(name in channels), name)
    })

    test('a client made by the application is used as it is', async () => {
      const client = clients.pusher(server)
      const echo = new Echo({ broadcaster, key: APP.key, client })
      const got = new Inbox()
      await echoSubscribed(echo.channel('given').listen('.x', got.push))
      assert.equal(echo.socketId(), client.connection.socket_id)
      await application.sdk.trigger('given', 'x', 1)
      assert.equal(await got.next(), 1)
    })

    test('a Pusher found on the page is used', async (t) => {
      globalThis.window = { Pusher }
      t.after(() => delete globalThis.window)
      const echo = clients.echo(server, { broadcaster, Pusher: undefined, ...clientOptions(server) })
      await reached(echo.connector.pusher, 'connected')
      assert.equal(echo.connectionStatus(), 'connected')
    })
  })
}
