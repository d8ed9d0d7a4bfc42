// What several nodes are to their clients and publishers: one server.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Inbox, echoSubscribed, eventually, inboxOf, named, reached, sdk } from '../harness.mjs'
import { startRedis } from './redis.mjs'
import { report, startCluster } from './stage.mjs'

const CACHE_TTL_SECONDS = 5
const is = (event) => (one) => one.event === event

test('events', async (t) => {
  const app = { cache_ttl_seconds: CACHE_TTL_SECONDS, client_events_per_second: 0 }
  const cluster = await startCluster(t, { nodes: 3, settings: { app } })
  const [a, b, c] = cluster.nodes
  const [ada, ben, cy] = [await cluster.seat(a, 'ada'), await cluster.seat(b, 'ben'), await cluster.seat(c, 'cy')]
  const seats = [ada, ben, cy]
  const publishers = [cluster.publisher('p', a), cluster.publisher('q', b)]
  const send = (node) => sdk(node, { ...cluster.app, encryptionMasterKeyBase64: Buffer.alloc(32, 7).toString('base64') })

  await t.test('of two publishers at two nodes reach everybody, once and in one order', async () => {
    const names = ['orders', 'private-orders']
    for (const seat of seats) await seat.join(...names)
    await Promise.all(publishers.map(async (publisher) => {
      for (let n = 0; n < 250; n += 1) assert.equal((await publisher.publish(names[n % 2])).status, 200)
    }))
    await eventually(() => seats.every((seat) => names.every((name) => seat.log(name).events.length === 250)), 'all events')
    const orders = seats.map((seat) => JSON.stringify(names.map((name) => seat.log(name).events.map(({ data }) => data))))
    assert.equal(new Set(orders).size, 1)
  })

  await t.test('do not reach the connection that is excluded, wherever it is', async () => {
    for (const seat of seats) await seat.join('others')
    for (const [n, seat] of seats.entries()) {
      for (const node of cluster.nodes) {
        await send(node).trigger('others', 'not-for', { n }, { socket_id: seat.client.connection.socket_id })
      }
    }
    await send(a).trigger('others', 'last', {})
    for (const [n, seat] of seats.entries()) {
      await seat.heard('others', is('last'))
      const from = seat.log('others').events.filter(is('not-for')).map(({ data }) => data.n)
      assert.deepEqual(from, [0, 1, 2].filter((other) => other !== n).flatMap((other) => [other, other, other]))
    }
  })

  await t.test('of clients reach the others, with their sender where that is known, never the sender', async () => {
    const dan = await cluster.seat(a, 'dan')
    for (const seat of [...seats, dan]) await seat.join('private-chat', 'presence-chat')
    await cluster.agreed(performance.now())
    for (const name of ['private-chat', 'presence-chat']) {
      const metadata = new Inbox()
      ben.client.channel(name).bind('client-typing', (data, more) => metadata.push(more))
      const values = [{ on: true }, {}, [1], 'text', 7, null]
      for (const data of values) ada.client.channel(name).trigger('client-typing', data)
      for (const seat of [ben, cy, dan]) {
        await eventually(() => seat.log(name).events.length === values.length, 'client events')
        assert.deepEqual(seat.log(name).events.map(({ data }) => data), values)
      }
      assert.deepEqual(await metadata.next(), name === 'presence-chat' ? { user_id: 'ada' } : {})
      await send(c).trigger(name, 'last', {})
      await ada.heard(name, is('last'))
      assert.deepEqual(ada.log(name).events.map(({ event }) => event), ['last'])
    }
    dan.close()
  })

  await t.test('of a batch come in their order, and one event to a hundred channels', async () => {
    for (const seat of seats) await seat.join('batch')
    const batch = Array.from({ length: 10 }, (_, n) => ({ channel: 'batch', name: 'one', data: { n } }))
    assert.equal((await send(b).triggerBatch(batch)).status, 200)
    const hundred = Array.from({ length: 100 }, (_, n) => `hundred-${n}`)
    await ben.join(...hundred)
    assert.equal((await send(a).trigger(hundred, 'to-all', {})).status, 200)
    for (const seat of seats) {
      await eventually(() => seat.log('batch').events.length === 10, 'the batch')
      assert.deepEqual(seat.log('batch').events.map(({ data }) => data.n), batch.map((_, n) => n))
    }
    for (const name of hundred) await ben.heard(name, is('to-all'))
    hundred.forEach((name) => ben.leave(name))
  })

  await t.test('with info tell how many are there on all nodes', async () => {
    for (const seat of seats) await seat.join('presence-info')
    await cluster.agreed(performance.now())
    const response = await send(a).trigger(['presence-info', 'nobody'], 'x', {}, { info: 'user_count,subscription_count' })
    const { channels } = await response.json()
    assert.deepEqual(channels['presence-info'], { user_count: 3, subscription_count: 3 })
    assert.equal(channels.nobody.subscription_count, 0)
  })

  await t.test('of a cache channel are kept for newcomers at other nodes, for a time', async () => {
    await send(a).trigger('cache-news', 'kept', { n: 1 })
    await send(b).trigger('cache-news', 'kept', { n: 2 })
    const last = performance.now()
    await cy.join('cache-news')
    assert.deepEqual(await cy.heard('cache-news', is('kept')), { n: 2 })
    const { cache } = await cluster.get(b, '/channels/cache-news', { info: 'cache' })
    assert.deepEqual(cache.data, '{"n":2}')
    await ben.join('cache-empty')
    await ben.heard('cache-empty', is('pusher:cache_miss'))
    await eventually(async () => !(await cluster.get(c, '/channels/cache-news', { info: 'cache' })).cache, 'end of the kept event')
    assert.ok(performance.now() - last >= (CACHE_TTL_SECONDS - 1) * 1000)
    await ada.join('cache-news')
    await ada.heard('cache-news', is('pusher:cache_miss'))
  })

  await t.test('of encrypted channels stay what they are', async () => {
    await ben.join('private-encrypted-vault')
    const inbox = inboxOf(ben.client.channel('private-encrypted-vault'))
    await send(a).trigger('private-encrypted-vault', 'secret', { pin: 1234 })
    assert.deepEqual((await inbox.next(named('secret'))).data, { pin: 1234 })
  })

  await t.test('of newer nodes, or nobody\'s, are counted and dropped', async () => {
    const topics = ['{soundpost/orders}:t', '{nodes}:control'].map((name) => `${cluster.names}:${name}`)
    const messages = [Buffer.from([99, 1, 2, 3]), Buffer.from('hello'), Buffer.alloc(0), Buffer.from([1])]
    for (const topic of topics) for (const message of messages) await cluster.redis.ask('PUBLISH', topic, message)
    for (const node of cluster.nodes) {
      const dropped = async () =>
        (await node.metric('soundpost_redis_unknown_messages_total')) + (await node.metric('soundpost_redis_malformed_messages_total'))
      await eventually(async () => (await dropped()) === topics.length * messages.length, 'dropped messages')
    }
    assert.equal((await publishers[0].publish('orders')).status, 200)
  })

  await t.test('nothing is left of it', async () => {
    for (const node of cluster.nodes) {
      const counted = await Promise.all(['gaps', 'duplicates', 'reconnects', 'errors'].map((name) => node.metric(`soundpost_redis_${name}_total`)))
      assert.deepEqual(counted, [0, 0, 0, 0])
    }
    report(t, 'none: two publishers, three nodes', { agreed: await cluster.agreed(performance.now()) }, await cluster.finish())
  })
})

test('members and users', async (t) => {
  const cluster = await startCluster(t, { settings: { app: { subscription_count: true } } })
  const [a, b] = cluster.nodes
  const api = sdk(a, cluster.app)

  await t.test('of one room, each once, whatever the nodes of their connections', async () => {
    const ada = await cluster.seated(a, 'ada', ['presence-room'])
    const ben = await cluster.seated(b, 'ben', ['presence-room'])
    await cluster.agreed(performance.now())
    const again = await cluster.seated(a, 'ben', ['presence-room'])
    ben.close()
    await cluster.agreed(performance.now())
    again.leave('presence-room')
    await cluster.agreed(performance.now())
    again.close()
    const seen = ada.log('presence-room').transitions.map(({ change, id }) => `${id} ${change}`)
    assert.deepEqual(seen, ['ben added', 'ben removed'])
    // Many at once, of which each is at both.
    const ids = Array.from({ length: 20 }, (_, n) => `m${n}`)
    const many = await Promise.all(ids.flatMap((id) => [cluster.seated(a, id, ['presence-room']), cluster.seated(b, id, ['presence-room'])]))
    await cluster.agreed(performance.now())
    many.forEach((seat) => seat.close())
    await cluster.agreed(performance.now())
    assert.equal(cluster.transitions().filter(({ seat }) => seat === ada).length, 2 + 2 * ids.length)
    ada.close()
  })

  await t.test('counts of subscribers are those of all nodes', async () => {
    const ada = await cluster.seated(a, 'ada', ['counted'])
    await eventually(() => ada.log('counted').count === 1, 'count of 1')
    const ben = await cluster.seated(b, 'ben', ['counted'])
    await eventually(() => [ada, ben].every((seat) => seat.log('counted').count === 2), 'count of 2')
    const cy = await cluster.seated(b, 'cy', ['counted'])
    await eventually(() => [ada, ben, cy].every((seat) => seat.log('counted').count === 3), 'count of 3')
    ada.close()
    await eventually(() => [ben, cy].every((seat) => seat.log('counted').count === 2), 'count of 2 again')
    await cluster.agreed(performance.now())
    ben.close()
    cy.close()
  })

  await t.test('events to a user reach every connection of that user', async () => {
    const [here, there] = [await cluster.seat(a, 'ada'), await cluster.seat(b, 'ada')]
    const other = await cluster.seat(b, 'ben')
    for (const seat of [here, there, other]) await seat.signIn()
    await api.sendToUser('ada', 'note', { n: 1 })
    for (const seat of [here, there]) await seat.heard('#server-to-user-ada', is('note'))
    await api.sendToUser('ben', 'note', { n: 2 })
    assert.deepEqual(await other.heard('#server-to-user-ben', is('note')), { n: 2 })
    for (const seat of [here, there, other]) seat.close()
  })

  await t.test('a watchlist tells who comes and goes at other nodes', async () => {
    const watching = async (node, user, watchlist) => {
      const [seat, watched] = [await cluster.seat(node, user, { watchlist }), new Inbox()]
      seat.client.user.watchlist.bind_global((event, { user_ids: ids }) => watched.push({ event, ids }))
      await seat.signIn()
      return { seat, watched }
    }
    const ada = await watching(a, 'ada', ['w-ben', 'w-cy'])
    assert.deepEqual(await ada.watched.next(), { event: 'offline', ids: ['w-ben', 'w-cy'] })
    const first = await cluster.seat(b, 'w-ben')
    await first.signIn()
    assert.deepEqual(await ada.watched.next(), { event: 'online', ids: ['w-ben'] })
    const late = await watching(a, 'late', ['w-ben', 'w-cy'])
    assert.deepEqual(await late.watched.next(), { event: 'online', ids: ['w-ben'] })
    assert.deepEqual(await late.watched.next(), { event: 'offline', ids: ['w-cy'] })
    // A reload that ends at the other node is not seen; the leave is, once, and not before its time.
    first.close()
    const second = await cluster.seat(a, 'w-ben')
    await second.signIn()
    const left = performance.now()
    second.close()
    for (const { watched } of [ada, late]) assert.deepEqual(await watched.next(), { event: 'offline', ids: ['w-ben'] })
    assert.ok(performance.now() - left >= 2900)
    assert.deepEqual([ada.watched.rest, late.watched.rest], [[], []])
    ada.seat.close()
    late.seat.close()
  })

  await t.test('terminate_connections ends those of all nodes', async () => {
    const users = [await cluster.seat(a, 't-ada'), await cluster.seat(b, 't-ada')]
    for (const seat of users) await seat.signIn()
    const member = await cluster.seated(b, 't-ada', ['presence-terminated'])
    const other = await cluster.seat(b, 't-ben')
    await other.signIn()
    await api.terminateUserConnections('t-ada')
    for (const seat of [...users, member]) {
      await reached(seat.client, 'disconnected')
      assert.equal(seat.errors.at(-1).data?.code ?? seat.errors.at(-1).error?.data?.code, 4009)
      seat.close()
    }
    assert.equal(other.client.connection.state, 'connected')
  })

  await t.test('Echo sees the members of the other node, and its whispers and events', async () => {
    const customHandler = ({ socketId, channelName }, done) =>
      done(null, api.authorizeChannel(socketId, channelName, { user_id: 'eve', user_info: { id: 'eve' } }))
    const echo = cluster.echo(b, { broadcaster: 'reverb', channelAuthorization: { customHandler } })
    const [here, events] = [new Inbox(), new Inbox()]
    const room = echo.join('echo').here((users) => here.push(users)).joining(({ name }) => events.push(`joining ${name}`))
      .leaving(({ name }) => events.push(`leaving ${name}`)).listen('OrderShipped', ({ n }) => events.push(`order ${n}`))
      .listenForWhisper('typing', ({ n }) => events.push(`typing ${n}`))
    await echoSubscribed(room)
    assert.deepEqual(await here.next(), [{ id: 'eve' }])
    const ada = await cluster.seated(a, 'ada', ['presence-echo'])
    assert.equal(await events.next(), 'joining ada!')
    room.whisper('typing', { n: 1 })
    assert.deepEqual(await ada.heard('presence-echo', is('client-typing')), { n: 1 })
    ada.client.channel('presence-echo').trigger('client-typing', { n: 2 })
    assert.equal(await events.next(), 'typing 2')
    await api.trigger('presence-echo', 'App\\Events\\OrderShipped', { n: 3 })
    assert.equal(await events.next(), 'order 3')
    ada.close()
    assert.equal(await events.next(), 'leaving ada!')
    echo.disconnect()
  })

  await t.test('nothing is left of it', () => cluster.finish())
})

test('a leave is held back on all nodes', async (t) => {
  const HOLD = 3000
  const cluster = await startCluster(t, { settings: { app: { presence_leave_hold_milliseconds: HOLD } } })
  const [a, b] = cluster.nodes
  const ada = await cluster.seated(a, 'ada', ['presence-room'])
  const ben = await cluster.seated(a, 'ben', ['presence-room'])
  const cy = await cluster.seated(b, 'cy', ['presence-room'])
  await cluster.agreed(performance.now())
  const before = performance.now()
  // ben's page is loaded again and lands at the other node; cy leaves.
  ben.close()
  const back = await cluster.seated(b, 'ben', ['presence-room'])
  cy.close()
  const seen = () => ada.log('presence-room').transitions.filter(({ at }) => at >= before)
  await eventually(() => seen().length > 0, 'leave')
  assert.ok(performance.now() - before >= HOLD - 100)
  await cluster.agreed(performance.now())
  assert.deepEqual(seen().map(({ change, id }) => `${id} ${change}`), ['cy removed'])
  assert.deepEqual(back.log('presence-room').transitions.map(({ change, id }) => `${id} ${change}`), ['cy removed'])
  await cluster.finish()
})

test('the connections of an app are counted on all nodes', async (t) => {
  const cluster = await startCluster(t, { settings: { app: { connections_max: 3 } } })
  const [a, b] = cluster.nodes
  for (const user of ['ada', 'ben', 'cy']) await cluster.seat(a, user)
  // Nodes tell each other with their heartbeats.
  const isRefused = async () => {
    const client = cluster.pusher(b)
    const states = new Inbox()
    client.connection.bind('state_change', ({ current }) => states.push(current))
    const state = await states.next((one) => ['connected', 'disconnected'].includes(one))
    client.disconnect()
    return state === 'disconnected'
  }
  await eventually(isRefused, 'refusal')
  cluster.present[0].close()
  await eventually(async () => !(await isRefused()), 'room for one')
  await cluster.finish()
})

test('local_first: sooner, still once, and in the order of each publisher', async (t) => {
  const cluster = await startCluster(t, { settings: { redis: { local_first: true } } })
  const [a, b] = cluster.nodes
  for (const [node, user] of [[a, 'ada'], [a, 'ben'], [b, 'cy'], [b, 'dan']]) {
    await cluster.seated(node, user, ['orders', 'presence-room'])
  }
  const publishers = [cluster.publisher('p', a), cluster.publisher('q', b)]
  await Promise.all(publishers.map(async (publisher) => {
    for (let n = 0; n < 100; n += 1) assert.equal((await publisher.publish(n % 2 ? 'orders' : 'presence-room')).status, 200)
  }))
  const [ada, ben, cy] = cluster.seats
  ada.client.channel('presence-room').trigger('client-typing', { n: 1 })
  for (const seat of [ben, cy]) await seat.heard('presence-room', is('client-typing'))
  await cluster.agreed(performance.now())
  const { sent } = await cluster.finish({ ordered: false })
  assert.equal(sent, 200)
})

test('deployments on one redis never meet', async (t) => {
  const redis = await startRedis()
  t.after(() => redis.stop())
  const kinds = [{}, { prefix: 'other' }, { channel: 'other' }, { database: 1 }]
  const deployments = []
  for (const settings of kinds) {
    deployments.push(await startCluster(t, { redis, settings: { redis: settings } }))
  }
  for (const [n, cluster] of deployments.entries()) {
    const [a, b] = cluster.nodes
    for (const [node, user] of [[a, 'ada'], [b, `user-of-${n}`]]) {
      const seat = await cluster.seated(node, user, ['presence-room', 'orders'])
      await seat.signIn()
    }
    await cluster.agreed(performance.now())
    cluster.publisher(`p${n}`, a).start(['orders', 'presence-room'])
  }
  const isServed = (cluster) => cluster.seats.every((seat) => seat.log('orders').events.length >= 10)
  await eventually(() => deployments.every(isServed), 'events of each')
  await sdk(deployments[0].nodes[0], deployments[0].app).terminateUserConnections('user-of-1')
  for (const cluster of deployments) {
    await cluster.agreed(performance.now())
    assert.ok(cluster.seats.every(({ client }) => client.connection.state === 'connected'))
    assert.ok(cluster.transitions().every(({ id }) => cluster.seats.some(({ user }) => user === id)))
  }
  for (const cluster of deployments) await cluster.account()
  // All leave together, as each is watched until its topics are left.
  for (const cluster of deployments) cluster.seats.forEach((seat) => seat.close())
  for (const cluster of deployments) await cluster.finish()
})
