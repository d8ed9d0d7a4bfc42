// A short set of faults, for every run; `faults/` has the others, for `cargo xtask test --faults`.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Inbox, eventually } from '../harness.mjs'
import { MASTER, startSentinel } from './redis.mjs'
import { MEMBERS_GONE, ON_A_LOADED_MACHINE, PRESENCE_EQUAL, ROOM, SERVICE_BACK, around, between, isDegraded, pause, setScene } from './scene.mjs'
import { report } from './stage.mjs'

test('a node is killed', async (t) => {
  const scene = await setScene(t)
  const { cluster, nodes: [a, b, c] } = scene
  // Somebody signed in, and watched, with a connection at the node that dies and at another one; and with one alone.
  const watched = new Inbox()
  const watcher = await cluster.seat(a, 'watcher', { watchlist: ['both', 'alone'] })
  watcher.client.user.watchlist.bind_global((event, { user_ids: ids }) => ids.forEach((id) => watched.push(`${id} ${event}`)))
  for (const [node, user] of [[b, 'both'], [c, 'both'], [b, 'alone']]) await (await cluster.seat(node, user)).signIn()
  await watcher.signIn()
  for (const user of ['alone', 'both']) await watched.next((text) => text === `${user} online`, 'state of all')

  scene.begin()
  await pause(500)
  await scene.rest()
  const killed = performance.now()
  await b.kill()
  cluster.abandon(b)
  // One of its users finds another node before the others know.
  await cluster.seated(c, 'B2', [ROOM, 'orders'])
  const agreed = await cluster.agreed(killed, MEMBERS_GONE)

  const others = scene.stable.filter(({ node }) => node !== b)
  for (const [user, seen] of [['B1', ['removed']], ['B2', []], ['both', []]]) {
    for (const seat of others) {
      const told = seat.log(ROOM).transitions.filter(({ at, id }) => at >= killed && id === user).map(({ change }) => change)
      assert.deepEqual(told, seat.user === user ? [] : seen, `${seat.user} at ${seat.node.name} of ${user}`)
    }
  }
  assert.equal(await watched.next(), 'alone offline')
  assert.deepEqual(watched.rest, [])
  scene.assertConnected(others)
  const figures = { agreed, ...(await scene.pings()), ...scene.assertAnswered(killed) }
  scene.assertTaken(figures)
  report(t, 'kill -9 of a node', figures, await cluster.finish({ excuses: around(killed, b) }))
})

test('redis is killed and comes back empty', async (t) => {
  const scene = await setScene(t)
  const { cluster } = scene
  scene.begin()
  await pause(300)
  const killed = performance.now()
  await cluster.redis.kill()
  await scene.degraded()
  await pause(2000)
  const back = performance.now()
  await cluster.redis.start({ isEmpty: true })
  const served = await scene.served(back, SERVICE_BACK + ON_A_LOADED_MACHINE)
  await scene.rest()
  const agreed = await cluster.agreed(back, PRESENCE_EQUAL + ON_A_LOADED_MACHINE)
  scene.assertQuiet(killed)
  const figures = { agreed, served: `${served} ms`, ...(await scene.pings()), ...scene.assertAnswered(killed) }
  assert.ok(figures.refused > 0)
  report(t, 'redis killed, back empty after 2 s', figures, await cluster.finish({ excuses: between(killed, back + served) }))
})

test('a node is cut off from redis for 3 s, its connections stay open', async (t) => {
  const scene = await setScene(t, { settings: { isBehindProxy: true } })
  const { cluster, nodes: [, b] } = scene
  scene.begin()
  await pause(300)
  const cut = performance.now()
  b.proxy.stall()
  await eventually(async () => isDegraded(await b.health('/ready')), 'degraded node B')
  await pause(3000 - (performance.now() - cut))
  const healed = performance.now()
  b.proxy.heal()
  const served = await scene.served(healed, SERVICE_BACK + ON_A_LOADED_MACHINE)
  await scene.rest()
  const agreed = await cluster.agreed(healed, PRESENCE_EQUAL + ON_A_LOADED_MACHINE)
  scene.assertQuiet(cut)
  const figures = { agreed, served: `${served} ms`, ...(await scene.pings()), ...scene.assertAnswered(cut) }
  scene.assertTaken(figures)
  report(t, 'a node stalled from redis for 3 s', figures, await cluster.finish({ excuses: between(cut, healed + served, b) }))
})

test('sentinel fails over', async (t) => {
  const redis = await startSentinel()
  t.after(() => redis.stop())
  const settings = { redis: { sentinels: [`127.0.0.1:${redis.sentinel.port}`], master: MASTER } }
  const scene = await setScene(t, { nodes: 2, redis, settings })
  const { cluster } = scene
  const before = await redis.current()
  scene.begin()
  await pause(300)
  const began = performance.now()
  await redis.sentinel.ask('SENTINEL', 'FAILOVER', MASTER)
  await eventually(async () => (await redis.current()) !== before, 'another master')
  const promoted = performance.now()
  await cluster.gathered(await redis.current())
  const moved = performance.now()
  const served = await scene.served(moved, SERVICE_BACK + ON_A_LOADED_MACHINE)
  await scene.rest()
  const agreed = await cluster.agreed(moved, PRESENCE_EQUAL + ON_A_LOADED_MACHINE)
  scene.assertQuiet(began)
  const figures = { agreed, moved: `${Math.round(moved - promoted)} ms`, served: `${served} ms`, ...(await scene.pings()), ...scene.assertAnswered(began) }
  // What the old master had last, the new one may never get.
  report(t, 'SENTINEL FAILOVER', figures, await cluster.finish({ excuses: between(began, moved + served) }))
})
