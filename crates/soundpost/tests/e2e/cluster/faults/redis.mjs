// Redis that is away, paused, comes back with its data, with old data or with none; its sentinels and its cluster; and
// what may be chosen instead of a refusal.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Inbox, eventually } from '../../harness.mjs'
import { MASTER, startRedisCluster, startSentinel } from '../redis.mjs'
import { PRESENCE_EQUAL, ROOM, SERVICE_BACK, between, pause, setScene } from '../scene.mjs'
import { LEASE, report } from '../stage.mjs'

const is = (event) => (one) => one.event === event

/** What a node may take more while publishes wait for Redis; they are given up after a second. */
const WAITING_MEMORY_MAX = 64 << 20

/** The end of a scene in which all nodes were without Redis between these times: the promises, and the line. */
async function finish(t, scene, what, from, back) {
  const { cluster } = scene
  const served = await scene.served(back, SERVICE_BACK)
  await scene.rest()
  const agreed = await cluster.agreed(back, PRESENCE_EQUAL)
  // A storm may come later as well: leases are looked at again when a node has been connected for one.
  await pause(LEASE + 1000)
  scene.assertQuiet(from)
  const figures = { agreed, served: `${served} ms`, ...(await scene.pings()), ...scene.assertAnswered(from) }
  report(t, what, figures, await cluster.finish({ excuses: between(from, back + served) }))
  return figures
}

for (const [what, { server, restart, save, away }] of Object.entries({
  'with its data after 2 s': { server: { appendonly: true }, away: 2000 },
  'with its data after 10 s': { server: { appendonly: true }, away: 10_000 },
  'with old data after 2 s': { save: true, away: 2000 },
  'with old data after 10 s': { save: true, away: 10_000 },
  'empty after 10 s': { restart: { isEmpty: true }, away: 10_000 },
  'empty at once': { restart: { isEmpty: true }, away: 0 },
})) {
  test(`redis is killed and comes back ${what}`, async (t) => {
    const scene = await setScene(t, { server })
    const { cluster, nodes: [a, b] } = scene
    scene.begin()
    await pause(300)
    if (save) {
      // What came between this and the end is not in it: somebody who left is, somebody who came is not.
      await cluster.redis.save()
      const [left] = scene.stable.splice(1, 1)
      left.leave(ROOM)
      scene.stable.push(await cluster.seated(b, 'after-the-save', [ROOM]))
      await eventually(() => left.isGone || !scene.stable[0].log(ROOM).roster.has(left.user), 'leave')
    }
    await pause(300)
    const killed = performance.now()
    await cluster.redis.kill()
    if (away > 0) {
      await scene.degraded()
      // A node serves its own meanwhile: who comes is let in, and told of to the others later.
      scene.stable.push(await cluster.seated(a, 'meanwhile', [ROOM, 'orders', 'private-orders']))
      const refused = new Inbox()
      const { client } = scene.stable.at(-1)
      client.connection.bind('error', refused.push)
      client.channel('private-orders').trigger('client-typing', {})
      const { data } = await refused.next()
      assert.equal(data.code, 4301)
      await pause(away - (performance.now() - killed))
    }
    const quietFrom = performance.now()
    await cluster.redis.start(restart)
    const back = performance.now()
    const newcomer = scene.stable.findIndex(({ user }) => user === 'meanwhile')
    const [seat] = newcomer < 0 ? [] : scene.stable.splice(newcomer, 1)
    const { refused } = await finish(t, scene, `redis killed, back ${what}`, killed, back)
    if (away > 0) assert.ok(refused > 0)
    if (seat) {
      const seen = cluster.transitions(quietFrom, 'meanwhile').filter((one) => one.seat.node !== a && scene.stable.includes(one.seat))
      assert.deepEqual(seen.map(({ change }) => change), scene.stable.filter(({ node }) => node !== a).map(() => 'added'))
    }
  })
}

test('counts of subscribers that have not changed are not told again when redis is back', async (t) => {
  const scene = await setScene(t, { settings: { app: { subscription_count: true } } })
  const { cluster } = scene
  const subscribers = scene.stable.length
  await eventually(() => scene.stable.every((seat) => seat.log('orders').count === subscribers), 'counts')
  scene.begin({ churning: [] })
  await pause(300)
  const killed = performance.now()
  await cluster.redis.kill()
  await scene.degraded()
  await pause(1000)
  await cluster.redis.start({ isEmpty: true })
  await finish(t, scene, 'redis killed, back empty, counts told', killed, performance.now())
  const told = scene.stable.flatMap((seat) => seat.log('orders').counts.filter(({ at, count }) => at >= killed && count !== subscribers)
    .map(({ at, count }) => `${seat.user} at ${seat.node.name}: ${count} after ${Math.round(at - killed)} ms`))
  assert.deepEqual(told.filter((_, n) => n < 20), [])
})

for (const milliseconds of [3000, 10_000]) {
  test(`redis stands still for ${milliseconds / 1000} s`, async (t) => {
    const scene = await setScene(t)
    const { cluster } = scene
    scene.begin()
    await pause(300)
    const stopped = performance.now()
    cluster.redis.pause()
    await scene.degraded()
    await pause(milliseconds - (performance.now() - stopped))
    cluster.redis.resume()
    const { refused } = await finish(t, scene, `redis paused for ${milliseconds / 1000} s`, stopped, performance.now())
    assert.ok(refused > 0)
  })
}

test('much is published while redis stands still: little of it waits', async (t) => {
  const scene = await setScene(t, { nodes: 2 })
  const { cluster, nodes: [, b] } = scene
  const before = b.memory()
  cluster.redis.pause()
  const data = 'x'.repeat(100_000)
  const many = Array.from({ length: 32 }, (_, n) => cluster.publisher(`many${n}`, b))
  let most = 0
  await Promise.all(many.map(async (publisher) => {
    for (let n = 0; n < 10; n += 1) {
      const { status } = await publisher.publish('much', {}, { data })
      assert.equal(status, 503)
      most = Math.max(most, b.memory() - before)
    }
  }))
  cluster.redis.resume()
  const back = performance.now()
  assert.ok(most < WAITING_MEMORY_MAX, `grown by ${most >> 20} MB`)
  const served = await scene.served(back, SERVICE_BACK)
  const agreed = await cluster.agreed(back, PRESENCE_EQUAL)
  scene.assertQuiet(back)
  report(t, 'redis paused, 32 MB published', { agreed, served: `${served} ms`, memory: `+ ${most >> 20} MB` }, await cluster.finish({ excuses: between(0, back + served) }))
})

test('the master of a sentinel is killed', async (t) => {
  const redis = await startSentinel()
  t.after(() => redis.stop())
  const settings = { redis: { sentinels: [`127.0.0.1:${redis.sentinel.port}`], master: MASTER } }
  const scene = await setScene(t, { redis, settings })
  const before = await redis.current()
  scene.begin()
  await pause(300)
  const killed = performance.now()
  await before.kill()
  await eventually(async () => (await redis.current()) !== before, 'another master')
  const { refused } = await finish(t, scene, 'kill -9 of the master, sentinel', killed, performance.now())
  assert.ok(refused > 0)
})

test('redis cluster: one of three masters is killed and started again', async (t) => {
  const redis = await startRedisCluster()
  t.after(() => redis.stop())
  const settings = { redis: { cluster: redis.servers.map(({ port }) => `127.0.0.1:${port}`) } }
  const scene = await setScene(t, { redis, settings })
  // Channels on every master.
  const names = Array.from({ length: 12 }, (_, n) => `presence-spread-${n}`)
  for (const seat of scene.stable) await seat.join(...names)
  await scene.cluster.agreed(performance.now())
  scene.begin()
  await pause(300)
  for (const [n, server] of redis.servers.entries()) {
    const killed = performance.now()
    await server.kill()
    await scene.degraded()
    await pause(1000)
    await server.start()
    const isWell = async (one) => /cluster_state:ok/.test(await one.ask('CLUSTER', 'INFO')) && /cluster_slots_ok:16384/.test(await one.ask('CLUSTER', 'INFO'))
    await eventually(async () => (await Promise.all(redis.servers.map(isWell))).every(Boolean), 'whole cluster')
    const back = performance.now()
    const served = await scene.served(back, SERVICE_BACK)
    const last = n === redis.servers.length - 1
    if (!last) {
      scene.assertQuiet(killed)
      t.diagnostic(`master ${n}: served ${served} ms`)
      continue
    }
    await scene.rest()
    const agreed = await scene.cluster.agreed(back, PRESENCE_EQUAL)
    scene.assertQuiet(killed)
    const figures = { agreed, served: `${served} ms`, ...(await scene.pings()), ...scene.assertAnswered(killed) }
    const began = scene.beganAt
    report(t, 'each of three masters killed and started again', figures, await scene.cluster.finish({ excuses: between(began, back + served) }))
  }
})

test('on_outage = "local": who is at the node of the publisher hears it, and once', async (t) => {
  const scene = await setScene(t, { settings: { redis: { on_outage: 'local' } } })
  const { cluster, nodes: [a, b] } = scene
  await scene.stable[0].join('private-chat')
  const [here, there] = [await cluster.seated(a, 'here', ['private-chat']), await cluster.seated(b, 'there', ['private-chat'])]
  scene.begin()
  await pause(300)
  const killed = performance.now()
  await cluster.redis.kill()
  await scene.degraded()
  scene.stable[0].client.channel('private-chat').trigger('client-typing', { n: 1 })
  assert.deepEqual(await here.heard('private-chat', is('client-typing')), { n: 1 })
  await pause(2000)
  await cluster.redis.start({ isEmpty: true })
  const back = performance.now()
  const served = await scene.served(back, SERVICE_BACK)
  await scene.rest()
  const agreed = await cluster.agreed(back, PRESENCE_EQUAL)
  scene.assertQuiet(killed)
  assert.deepEqual(there.log('private-chat').events, [])
  const figures = { agreed, served: `${served} ms`, ...(await scene.pings()), ...scene.assertAnswered(killed) }
  scene.assertTaken(figures)
  // Only others may have missed what was delivered here.
  const isAtAnother = (record, seat) => between(killed, back + served)(record, seat) && seat.node !== record.node
  report(t, 'redis killed, on_outage = "local"', figures, await cluster.finish({ excuses: isAtAnother, ordered: false }))
})

test('local_first, while redis stands still and while it is away', async (t) => {
  const scene = await setScene(t, { settings: { redis: { local_first: true } } })
  const { cluster } = scene
  scene.begin()
  await pause(300)
  const stopped = performance.now()
  cluster.redis.pause()
  await scene.degraded()
  cluster.redis.resume()
  await scene.served(performance.now(), SERVICE_BACK)
  await cluster.redis.kill()
  await scene.degraded()
  await pause(1000)
  await cluster.redis.start({ isEmpty: true })
  const back = performance.now()
  const served = await scene.served(back, SERVICE_BACK)
  await scene.rest()
  const agreed = await cluster.agreed(back, PRESENCE_EQUAL)
  scene.assertQuiet(stopped)
  const figures = { agreed, served: `${served} ms`, ...(await scene.pings()), ...scene.assertAnswered(stopped) }
  report(t, 'redis paused, then killed, local_first', figures, await cluster.finish({ excuses: between(stopped, back + served), ordered: false }))
})
