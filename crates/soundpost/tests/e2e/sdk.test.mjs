// The npm `pusher` server SDK, unmodified: publishing, asking, and being refused.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Clients, named, reached, sdk, startApplication, startServer, subscribed } from './harness.mjs'

const clients = new Clients()
let server
let application
let ada
let ben

before(async () => {
  server = await startServer()
  application = await startApplication(server)
  ada = clients.pusher(server, { application, user: 'ada' })
  ben = clients.pusher(server, { application, user: 'ben' })
  await Promise.all([reached(ada, 'connected'), reached(ben, 'connected')])
})
after(async () => {
  clients.close()
  await application?.stop()
  await server?.stop()
})

const get = async (path, params) => (await application.sdk.get({ path, params })).json()
const refused = (promise, status) => assert.rejects(promise, (error) => error.status === status && error.body !== '')

test('trigger: one channel, then many at once, each told once', async () => {
  const names = ['many.1', 'many.2', 'private-many.3']
  const held = await Promise.all(names.map((name) => subscribed(ada, name)))
  assert.deepEqual(await (await application.sdk.trigger('many.1', 'one', { n: 1 })).json(), {})
  await application.sdk.trigger(names, 'all', { n: 2 })
  assert.deepEqual((await held[0].inbox.next()).data, { n: 1 })
  for (const { inbox } of held) assert.deepEqual(await inbox.next(named('all')), { event: 'all', data: { n: 2 } })
  await application.sdk.trigger(names, 'end', {})
  for (const { inbox } of held) assert.equal((await inbox.next()).event, 'end')
})

test('trigger with socket_id leaves that connection out', async () => {
  const [mine, theirs] = [await subscribed(ada, 'others'), await subscribed(ben, 'others')]
  await application.sdk.trigger('others', 'first', 1, { socket_id: ada.connection.socket_id })
  await application.sdk.trigger('others', 'second', 2)
  assert.equal((await theirs.inbox.next()).event, 'first')
  assert.equal((await mine.inbox.next()).event, 'second')
})

test('trigger with info answers with counts', async () => {
  await subscribed(ada, 'presence-counted')
  await subscribed(ben, 'presence-counted')
  await subscribed(ben, 'counted')
  const info = 'user_count,subscription_count'
  const answer = await application.sdk.trigger(['presence-counted', 'counted', 'nobody'], 'e', {}, { info })
  const { channels } = await answer.json()
  assert.equal(channels['presence-counted'].user_count, 2)
  assert.equal(channels.counted.subscription_count, 1)
  assert.equal(channels.counted.user_count, undefined)
})

test('triggerBatch keeps the order and each item its own exclusion', async () => {
  const [mine, theirs] = [await subscribed(ada, 'batch'), await subscribed(ben, 'batch')]
  const item = (name, more) => ({ channel: 'batch', name, data: { name }, ...more })
  const socket_id = ada.connection.socket_id
  await application.sdk.triggerBatch([item('a'), item('b', { socket_id }), item('c')])
  for (const name of ['a', 'b', 'c']) assert.equal((await theirs.inbox.next()).event, name)
  for (const name of ['a', 'c']) assert.equal((await mine.inbox.next()).event, name)
  const { batch } = await (await application.sdk.triggerBatch([item('d', { info: 'subscription_count' }), item('e')])).json()
  assert.deepEqual(batch, [{ subscription_count: 2 }, {}])
})

test('channels, channel and users say who is there', async () => {
  assert.deepEqual(await get('/channels', { filter_by_prefix: 'no-such-' }), { channels: {} })
  await subscribed(ada, 'presence-asked.1')
  await subscribed(ben, 'presence-asked.1')
  await subscribed(ben, 'asked.2')

  const { channels } = await get('/channels', { filter_by_prefix: 'presence-asked', info: 'user_count' })
  assert.deepEqual(channels, { 'presence-asked.1': { user_count: 2 } })
  assert.deepEqual((await get('/channels')).channels['asked.2'], {})

  assert.deepEqual(await get('/channels/asked.2', { info: 'subscription_count' }), { occupied: true, subscription_count: 1 })
  const asked = await get('/channels/presence-asked.1', { info: 'user_count,subscription_count' })
  assert.deepEqual(asked, { occupied: true, user_count: 2, subscription_count: 2 })
  assert.deepEqual(await get('/channels/nobody'), { occupied: false })

  const { users } = await get('/channels/presence-asked.1/users')
  assert.deepEqual(users.map(({ id }) => id).sort(), ['ada', 'ben'])
  assert.deepEqual(await get('/channels/presence-nobody/users'), { users: [] })
})

test('who cannot sign, or asks what cannot be, is refused', async () => {
  await refused(sdk(server, { secret: 'wrong' }).trigger('orders', 'e', {}), 401)
  await refused(sdk(server, { key: 'wrong' }).trigger('orders', 'e', {}), 401)
  await refused(sdk(server, { secret: 'wrong' }).get({ path: '/channels' }), 401)
  await refused(sdk(server, { appId: 'no-such-app' }).trigger('orders', 'e', {}), 404)
  await refused(application.sdk.get({ path: '/channels/orders/users' }), 400)
  await refused(application.sdk.trigger('orders', 'pusher:reserved', {}), 400)
})
