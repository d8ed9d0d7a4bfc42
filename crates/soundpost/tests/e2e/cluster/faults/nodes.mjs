// Nodes that end, stand still or vanish.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { eventually } from '../../harness.mjs'
import { startFaultProxy } from '../fault_proxy.mjs'
import { MEMBERS_GONE, PRESENCE_EQUAL, ROOM, SERVICE_BACK, around, between, pause, setScene } from '../scene.mjs'
import { LEASE, report } from '../stage.mjs'

/** What each of the seats was told of the user since then, in words. */
const told = (seats, id, since) =>
  seats.map((seat) => seat.log(ROOM).transitions.filter((one) => one.at >= since && one.id === id).map(({ change }) => change).join(' '))

test('a host vanishes: nothing is heard of it, not even that its connections are gone', async (t) => {
  const scene = await setScene(t, { settings: { isBehindProxy: true } })
  const { cluster, nodes: [, b, c] } = scene
  const front = await startFaultProxy(b)
  t.after(() => front.stop())
  const through = await cluster.seated(b, 'lonely', [ROOM], { through: front })
  await cluster.agreed(performance.now())
  scene.begin({ churning: [scene.nodes[0], c] })
  await pause(300)
  await scene.rest()
  const vanished = performance.now()
  b.proxy.stall()
  front.stall()
  await b.kill()
  assert.equal(through.client.connection.state, 'connected')
  cluster.abandon(b)
  await cluster.seated(c, 'B2', [ROOM, 'orders'])
  const agreed = await cluster.agreed(vanished, MEMBERS_GONE)
  const others = scene.stable.filter(({ node }) => node !== b)
  for (const [user, seen] of [['B1', 'removed'], ['lonely', 'removed'], ['B2', ''], ['both', '']]) {
    assert.deepEqual(told(others, user, vanished), others.map((seat) => (seat.user === user ? '' : seen)), user)
  }
  scene.assertConnected(others)
  const figures = { agreed, ...(await scene.pings()), ...scene.assertAnswered(vanished) }
  scene.assertTaken(figures)
  // Else Redis would keep the topics of a connection that it takes for open.
  b.proxy.cut()
  report(t, 'death of a host', figures, await cluster.finish({ excuses: around(vanished, b) }))
})

test('a node is asked to end: each member is gone within a second of its connection', async (t) => {
  const scene = await setScene(t, { settings: { server: { drain_seconds: 3 } } })
  const { cluster, nodes: [a, b] } = scene
  const leaving = []
  for (let n = 0; n < 10; n += 1) leaving.push(await cluster.seated(b, `leaver${n}`, [ROOM]))
  await cluster.agreed(performance.now())
  scene.begin({ churning: [] })
  const ends = new Map()
  for (const seat of cluster.seats.filter(({ node }) => node === b)) {
    seat.client.connection.bind('state_change', ({ previous }) => {
      if (previous !== 'connected') return
      ends.set(seat, performance.now())
      seat.close()
    })
  }
  const asked = performance.now()
  const drained = b.drain()
  await eventually(() => leaving.every((seat) => ends.has(seat)), 'end of the connections')
  await drained
  const ended = performance.now()
  const agreed = await cluster.agreed(ended, 1000)
  let longest = 0
  for (const seat of scene.stable.filter(({ node }) => node === a)) {
    for (const leaver of leaving) {
      const gone = seat.log(ROOM).transitions.filter(({ id, at }) => id === leaver.user && at >= asked)
      assert.deepEqual(gone.map(({ change }) => change), ['removed'])
      longest = Math.max(longest, gone[0].at - ends.get(leaver))
    }
  }
  assert.ok(longest < 1000, `a member was gone ${Math.round(longest)} ms after the connection`)
  assert.deepEqual(told(scene.stable.filter(({ node }) => node === a), 'both', asked).join(''), '')
  const figures = { agreed, 'longest leave': `${Math.round(longest)} ms`, 'ended after': `${Math.round(ended - asked)} ms`, ...(await scene.pings()) }
  report(t, 'SIGTERM of a node', figures, await cluster.finish({ excuses: between(asked, ended + 1000, b) }))
})

test('a node stands still for less than its lease', async (t) => {
  const scene = await setScene(t)
  const { cluster, nodes: [a, b, c] } = scene
  scene.begin({ churning: [a, c] })
  await pause(300)
  const stopped = performance.now()
  b.pause()
  await pause(3000)
  b.resume()
  const resumed = performance.now()
  const served = await scene.served(resumed, SERVICE_BACK)
  await scene.rest()
  const agreed = await cluster.agreed(resumed, PRESENCE_EQUAL)
  scene.assertQuiet(stopped)
  const figures = { agreed, served: `${served} ms`, ...(await scene.pings()), ...scene.assertAnswered(stopped) }
  scene.assertTaken(figures)
  report(t, 'SIGSTOP of a node for 3 s', figures, await cluster.finish({ excuses: between(stopped, resumed + served, b) }))
})

test('a node stands still for longer than its lease: its members go and come once', async (t) => {
  const scene = await setScene(t)
  const { cluster, nodes: [a, b, c] } = scene
  scene.begin({ churning: [a, c] })
  await pause(300)
  const stopped = performance.now()
  b.pause()
  b.isAside = true
  await scene.rest()
  const gone = await cluster.agreed(stopped, MEMBERS_GONE)
  // Meanwhile somebody leaves and somebody comes.
  const [changed] = scene.stable.filter(({ user }) => user === 'C2')
  changed.leave(ROOM)
  await cluster.seated(a, 'meanwhile', [ROOM])
  await pause(2 * LEASE - (performance.now() - stopped))
  b.resume()
  b.isAside = false
  const resumed = performance.now()
  const served = await scene.served(resumed)
  const agreed = await cluster.agreed(resumed)
  const others = scene.stable.filter((seat) => seat.node !== b && seat !== changed)
  for (const [user, seen] of [['B1', 'removed added'], ['B2', 'removed added'], ['both', ''], ['A1', ''], ['C1', '']]) {
    assert.deepEqual(told(others, user, stopped), others.map((seat) => (seat.user === user ? '' : seen)), user)
  }
  const behind = scene.stable.filter(({ node }) => node === b)
  for (const user of ['A1', 'A2', 'B1', 'B2', 'both', 'C1']) {
    assert.deepEqual(told(behind, user, stopped), behind.map(() => ''), `${user}, at the node that stood still`)
  }
  scene.assertConnected()
  const figures = { agreed, gone: `${gone} ms`, served: `${served} ms`, ...(await scene.pings()), ...scene.assertAnswered(stopped) }
  scene.assertTaken(figures)
  report(t, 'SIGSTOP of a node for 12 s', figures, await cluster.finish({ excuses: between(stopped, resumed + served, b) }))
})
