// Between nodes and Redis: lines that are cut, one way or both, slow ones, and ones that break in the middle of an answer.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { eventually } from '../../harness.mjs'
import { MEMBERS_GONE, PRESENCE_EQUAL, ROOM, SERVICE_BACK, between, isDegraded, pause, setScene } from '../scene.mjs'
import { report } from '../stage.mjs'

const behindProxies = { settings: { isBehindProxy: true } }

for (const directions of [['up'], ['down']]) {
  test(`a node is cut off for 3 s, only ${directions}`, async (t) => {
    const scene = await setScene(t, behindProxies)
    const { cluster, nodes: [, b] } = scene
    scene.begin()
    await pause(300)
    const cut = performance.now()
    b.proxy.stall(directions)
    await eventually(async () => isDegraded(await b.health('/ready')), 'degraded node B')
    await pause(3000 - (performance.now() - cut))
    b.proxy.heal()
    const healed = performance.now()
    const served = await scene.served(healed, SERVICE_BACK)
    await scene.rest()
    const agreed = await cluster.agreed(healed, PRESENCE_EQUAL)
    scene.assertQuiet(cut)
    const figures = { agreed, served: `${served} ms`, ...(await scene.pings()), ...scene.assertAnswered(cut) }
    report(t, `a node stalled for 3 s, only ${directions}`, figures, await cluster.finish({ excuses: between(cut, healed + served, b) }))
  })
}

for (const directions of [['up', 'down'], ['up'], ['down']]) {
  test(`a node is cut off for 15 s, ${directions.join(' and ')}`, async (t) => {
    const scene = await setScene(t, behindProxies)
    const { cluster, nodes: [a, b, c] } = scene
    scene.begin({ churning: [a, c] })
    await pause(300)
    const cut = performance.now()
    b.proxy.stall(directions)
    b.isAside = true
    await scene.rest()
    const gone = await cluster.agreed(cut, MEMBERS_GONE)
    // What is served without Redis: connections, pings, joins of this node alone; publishers are told to come again.
    const ready = await b.health('/ready')
    assert.ok(isDegraded(ready), JSON.stringify(ready))
    assert.equal((await b.health('/up')).status, 200)
    await cluster.seated(b, 'B3', [ROOM, 'orders'])
    const marker = scene.markers.get(b)
    const { status, took, text } = await marker.publish('orders')
    assert.equal(status, 503, text)
    assert.ok(took < 1000, `answered after ${took} ms`)
    await cluster.seated(a, 'A3', [ROOM])
    await pause(15_000 - (performance.now() - cut))
    b.proxy.heal()
    b.isAside = false
    const healed = performance.now()
    const served = await scene.served(healed, SERVICE_BACK)
    const agreed = await cluster.agreed(healed, PRESENCE_EQUAL)
    // Who is not at the node that was cut off never went; who is there went once, and came once.
    for (const seat of scene.stable) {
      for (const { user, node } of scene.stable) {
        const isSeenGo = user.startsWith('B') && seat.node !== b
        const seen = seat.log(ROOM).transitions.filter(({ id, at }) => id === user && at >= cut).map(({ change }) => change)
        assert.deepEqual(seen, isSeenGo ? ['removed', 'added'] : [], `${seat.user} at ${seat.node.name} of ${user} at ${node.name}`)
      }
    }
    scene.assertConnected()
    const figures = { agreed, gone: `${gone} ms`, served: `${served} ms`, ...(await scene.pings()), ...scene.assertAnswered(cut) }
    scene.assertTaken(figures)
    report(t, `a node stalled for 15 s, ${directions.join(' and ')}`, figures, await cluster.finish({ excuses: between(cut, healed + served, b) }))
  })
}

for (const milliseconds of [200, 700]) {
  test(`redis answers after ${milliseconds} ms`, async (t) => {
    const scene = await setScene(t, behindProxies)
    const { cluster } = scene
    scene.begin()
    await pause(300)
    const began = performance.now()
    for (const { proxy } of cluster.nodes) proxy.delay(milliseconds, ['down'])
    await pause(8000)
    await scene.rest()
    // The list of all channels is three round trips, and has a second.
    cluster.isListed = 3 * milliseconds < 1000
    const slowly = await cluster.agreed(performance.now())
    cluster.isListed = true
    for (const { proxy } of cluster.nodes) proxy.heal()
    const healed = performance.now()
    const served = await scene.served(healed, SERVICE_BACK)
    const agreed = await cluster.agreed(healed, PRESENCE_EQUAL)
    scene.assertQuiet(began)
    const figures = { agreed, 'agreed while slow': `${slowly} ms`, served: `${served} ms`, ...(await scene.pings()), ...scene.assertAnswered(began) }
    // From 700 ms it is not far to the 900 after which a publish is given up, nor to the second after which Redis is away:
    // a machine that is busy goes that far.
    const isNearTheLimit = milliseconds > 500
    if (!isNearTheLimit) scene.assertTaken(figures)
    const excuses = isNearTheLimit ? between(began, healed + served) : undefined
    report(t, `redis slow by ${milliseconds} ms`, figures, await cluster.finish({ excuses }))
  })
}

test('redis answers after 1.5 s, which is as if it were away', async (t) => {
  const scene = await setScene(t, behindProxies)
  const { cluster } = scene
  scene.begin()
  await pause(300)
  const began = performance.now()
  for (const { proxy } of cluster.nodes) proxy.delay(1500, ['down'])
  await pause(8000)
  await scene.rest()
  for (const { proxy } of cluster.nodes) proxy.heal()
  // What was on its way comes when it would have.
  await pause(1500)
  const healed = performance.now()
  const served = await scene.served(healed, SERVICE_BACK)
  const agreed = await cluster.agreed(healed, PRESENCE_EQUAL)
  scene.assertQuiet(began)
  const figures = { agreed, served: `${served} ms`, ...(await scene.pings()), ...scene.assertAnswered(began) }
  assert.ok(figures.refused > 0)
  report(t, 'redis slow by 1.5 s', figures, await cluster.finish({ excuses: between(began, healed + served) }))
})

test('connections break in the middle of answers, again and again', async (t) => {
  const scene = await setScene(t, behindProxies)
  const { cluster, nodes: [a, b] } = scene
  scene.begin()
  await pause(300)
  const began = performance.now()
  let breaks = 0
  for (const bytes of [0, 1, 2, 3, 5, 17, 60, 200, 1000]) {
    for (const node of [a, b]) {
      const reconnects = () => node.metric('soundpost_redis_reconnects_total')
      const before = await reconnects()
      node.proxy.cutAfter(bytes)
      // Broken, and whole again. Where there are no events, heartbeats bring some bytes every two seconds.
      await eventually(async () => (await reconnects()) > before, `break after ${bytes} bytes`)
      await cluster.isReady(node)
      breaks += 1
    }
  }
  const over = performance.now()
  const served = await scene.served(over, SERVICE_BACK)
  await scene.rest()
  const agreed = await cluster.agreed(over, PRESENCE_EQUAL)
  scene.assertQuiet(began)
  const figures = { agreed, breaks, served: `${served} ms`, ...(await scene.pings()), ...scene.assertAnswered(began) }
  report(t, 'answers cut in the middle', figures, await cluster.finish({ excuses: between(began, over + served) }))
})

test('nodes lose every connection at once, and cannot come back for 2 s', async (t) => {
  const scene = await setScene(t, behindProxies)
  const { cluster } = scene
  scene.begin()
  await pause(300)
  const cut = performance.now()
  for (const { proxy } of cluster.nodes) {
    proxy.refuse()
    proxy.cut()
  }
  await pause(2000)
  for (const { proxy } of cluster.nodes) proxy.heal()
  const healed = performance.now()
  const served = await scene.served(healed, SERVICE_BACK)
  await scene.rest()
  const agreed = await cluster.agreed(healed, PRESENCE_EQUAL)
  scene.assertQuiet(cut)
  const figures = { agreed, served: `${served} ms`, ...(await scene.pings()), ...scene.assertAnswered(cut) }
  report(t, 'all connections cut and refused for 2 s', figures, await cluster.finish({ excuses: between(cut, healed + served) }))
})

test('a line of 20 kB a second to one node', async (t) => {
  const scene = await setScene(t, behindProxies)
  const { cluster, nodes: [, b] } = scene
  scene.begin()
  await pause(300)
  const began = performance.now()
  b.proxy.throttle(20_000, ['down'])
  await pause(4000)
  b.proxy.heal()
  const healed = performance.now()
  const served = await scene.served(healed, SERVICE_BACK)
  await scene.rest()
  const agreed = await cluster.agreed(healed, PRESENCE_EQUAL)
  scene.assertQuiet(began)
  const figures = { agreed, served: `${served} ms`, ...(await scene.pings()), ...scene.assertAnswered(began) }
  report(t, 'a node throttled to 20 kB/s', figures, await cluster.finish({ excuses: between(began, healed + served, b) }))
})
