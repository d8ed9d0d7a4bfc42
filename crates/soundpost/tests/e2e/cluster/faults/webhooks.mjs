// Webhooks while nodes, Redis and targets fail: nothing is lost that can be kept, nothing is told that has not happened,
// and what comes twice has one id.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Crowd } from '../../crowd.mjs'
import { eventually, lateBy, subscribed } from '../../harness.mjs'
import { HOLD, NOT_TOLD, pause, startStage } from '../../webhook_stage.mjs'
import { failing, hanging, healthy, refusing, slow, startTarget } from '../../webhook_target.mjs'
import { MASTER, startRedisCluster, startSentinel } from '../redis.mjs'
import { ROOM, isDegraded } from '../scene.mjs'
import { startCluster } from '../stage.mjs'

const CHAT = 'private-chat'
/** Longest pause between two attempts, milliseconds. */
const PAUSE_MAX = 60_000

/** A cluster with a webhook, somebody who stays at each node, and a target that has heard of them. */
async function start(t, { nodes = 3, answer, webhook, ...options } = {}) {
  const target = await startTarget(t, { answer })
  const webhooks = [{ url: target.url, ...webhook }]
  const cluster = await startCluster(t, { nodes: 1, ...options, settings: { app: { client_events_per_second: 0 }, ...options.settings, webhooks } })
  for (let n = 1; n < nodes; n += 1) await cluster.node()
  const stable = []
  for (const node of cluster.nodes) stable.push(await cluster.seated(node, `stays-${node.name}`, [ROOM, CHAT]))
  await target.tells(`channel_occupied ${ROOM}`, `channel_occupied ${CHAT}`, ...stable.map(({ user }) => `member_added ${ROOM} ${user}`))
  let sent = 0
  const say = (seat = stable[sent % stable.length]) => seat.client.channel(CHAT).trigger('client-n', (sent += 1))
  return { cluster, target, stable, say, nodes: cluster.nodes, sent: () => sent }
}

/** Numbers of the client events that were told, in their order. */
const said = (target) => target.told.filter(({ name }) => name === 'client_event').map(({ data }) => Number(data))
const upTo = (count) => Array.from({ length: count }, (_, n) => n + 1)
const sorted = (list) => list.toSorted((a, b) => a - b)
const words = (target) => target.words.filter((word) => !word.startsWith('client_event'))

/** Numbers of the client events that were told; those that were said at one node are in their order. */
function assertInOrder({ target, stable }) {
  const numbers = said(target)
  for (const turn of stable.keys()) {
    const ofOne = numbers.filter((n) => (n - 1) % stable.length === turn)
    assert.deepEqual(ofOne, sorted(ofOne))
  }
  return numbers
}

/** The node whose turn it is to send, while there is something to be sent. */
async function senderOf(cluster) {
  const sent = () => Promise.all(cluster.alive.map((node) => node.metric('soundpost_webhooks_sent_total')))
  const before = await sent()
  const more = async () => (await sent()).findIndex((count, n) => count > before[n])
  await eventually(async () => (await more()) >= 0, 'node that sends')
  return cluster.alive[await more()]
}

/** Nothing was told of who stayed but that they came, and no event under two ids. */
function assertQuiet({ target, stable }) {
  for (const { user } of stable) assert.deepEqual(target.words.filter((word) => word.endsWith(` ${user}`)), [`member_added ${ROOM} ${user}`])
  assert.deepEqual(target.words.filter((word) => /^channel_(occupied|vacated)/.test(word)).filter((word) => [ROOM, CHAT].includes(word.split(' ')[1])), [`channel_occupied ${ROOM}`, `channel_occupied ${CHAT}`])
}

describe('minutes', { concurrency: 4 }, () => {
  for (const [what, answer, schedule] of [
    ['fails at once', refusing(503), [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 300]],
    ['never answers', hanging, [0, 11, 23, 37, 55, 81, 123, 193, 263, 300]],
  ]) {
    test(`a target that ${what} is asked for 5 minutes, and not of what is over`, async (t) => {
      const target = await startTarget(t, { answer })
      const settings = { settings: { client_events_per_second: 0 }, webhooks: [{ url: target.url, events: ['client_event'] }] }
      const { connected, metric } = await startStage(t, settings)
      const { channel } = await subscribed(await connected('ada'), CHAT)
      channel.trigger('client-n', 1)
      await target.asked(schedule.length, 330_000)
      const times = target.requests.map(({ at }) => (at - target.requests[0].at) / 1000)
      // The time of one that is not answered counts from its beginning, and the first may have come late.
      const [early, late] = [lateBy(1000) / 1000, lateBy(3000) / 1000]
      times.forEach((time, n) => assert.ok(time > schedule[n] - early && time < schedule[n] + late, `attempts after ${times} s`))
      await eventually(async () => (await metric('soundpost_webhooks_dropped_total', 'expired')) === 1, 'end of it', 20_000)
      target.answer = healthy
      channel.trigger('client-n', 2)
      await target.counts(1)
      assert.deepEqual([target.told[0].data, target.requests.length], ['2', schedule.length + 1])
      t.diagnostic(`attempts after ${times.map((time) => time.toFixed(1)).join(', ')} s`)
    })
  }

  for (const [what, options] of Object.entries({ 'one node': { nodes: 1, redis: null }, 'three nodes': {} })) {
    test(`a target that is down for two minutes, ${what}`, async (t) => {
      const scene = await start(t, options)
      const { cluster, target, say, nodes } = scene
      await target.down()
      const down = performance.now()
      const times = []
      const gone = await cluster.seated(nodes.at(-1), 'leaves', [ROOM])
      gone.close()
      while (performance.now() - down < 120_000) {
        times.push(performance.now() - down)
        say()
        await pause(1000)
      }
      const visitor = await cluster.seated(nodes[0], 'late', [ROOM])
      await target.up()
      const up = performance.now()
      say()
      await eventually(() => said(target).length === scene.sent(), 'all client events', 2 * PAUSE_MAX)
      assert.deepEqual(sorted(assertInOrder(scene)), upTo(scene.sent()))
      await target.hears(`member_added ${ROOM} ${visitor.user}`)
      for (const word of [`member_added ${ROOM} leaves`, `member_removed ${ROOM} leaves`]) assert.equal(target.words.filter((one) => one === word).length, 1, word)
      const first = target.requests.find(({ at }) => at > up)
      const last = target.requests.at(-1)
      t.diagnostic(`down for ${Math.round((up - down) / 1000)} s, ${times.length} client events and 3 comings and goings meanwhile; the first request ${Math.round((first.at - up) / 1000)} s ` +
        `after it was back, the last ${Math.round((last.at - up) / 1000)} s; ${target.requests.filter(({ at }) => at > up).length} requests, ${target.delivered.length - target.told.length} repeats, lost 0`)
      assertQuiet(scene)
      await target.verified({ brokenMax: 4 })
    })
  }
})

describe('webhooks', { concurrency: 1 }, () => {
  test('the node that sends is killed again and again while much is said', async (t) => {
    const scene = await start(t, { answer: slow(20) })
    const { cluster, target, stable, say } = scene
    let speaker = stable.at(-1)
    const talking = setInterval(() => speaker && say(speaker), 20)
    t.after(() => clearInterval(talking))
    const killed = []
    for (let round = 0; round < 2; round += 1) {
      await pause(2000)
      const dies = await senderOf(cluster)
      if (speaker.node === dies) {
        // What it had not given to Redis yet would be lost, and what is said at another overtakes it.
        speaker = undefined
        await eventually(() => said(target).length === scene.sent(), 'all that was said at the node that dies')
        speaker = stable.find(({ node }) => node.isAlive && node !== dies)
      }
      killed.push(dies)
      await dies.kill()
      cluster.abandon(dies)
      await pause(8000)
      await cluster.node()
    }
    clearInterval(talking)
    await eventually(() => said(target).length === scene.sent(), `all of ${scene.sent()} client events`, 60_000)
    assert.deepEqual(said(target), upTo(scene.sent()), 'each once by its id, and in order')
    for (const { user } of stable.filter(({ node }) => killed.includes(node))) await target.hears(`member_removed ${ROOM} ${user}`)
    const repeated = target.delivered.length - target.told.length
    t.diagnostic(`${scene.sent()} client events over the deaths of ${killed.map(({ name }) => name).join(' and ')}, ${repeated} came twice, each with its id; longest silence ${Math.round(longestSilence(target))} ms`)
    await target.verified({ brokenMax: 20 })
  })

  test('a node is killed, and its 200 users are back at the others: nothing is told', async (t) => {
    const scene = await start(t, { webhook: { batch_milliseconds: 100 } })
    const { cluster, target, nodes: [a, b, c] } = scene
    const crowd = new Crowd(cluster.app, ROOM, 200)
    t.after(() => crowd.leave())
    await crowd.join(a)
    await target.counts(2 + 3 + 200)
    const before = target.told.length
    await a.kill()
    cluster.abandon(a)
    const killed = performance.now()
    await crowd.join(b, c)
    const back = Math.round(performance.now() - killed)
    await target.hears(`member_removed ${ROOM} stays-A`, 20_000)
    await pause(NOT_TOLD)
    assert.deepEqual(target.words.slice(before), [`member_removed ${ROOM} stays-A`])
    t.diagnostic(`200 users were back after ${back} ms; webhooks: of the one who was not`)
    await target.verified()
  })

  test('a node is asked to end: another goes on at once, and its users are told of once', async (t) => {
    const scene = await start(t, { answer: slow(20) })
    const { cluster, target, stable, say, nodes: [a] } = scene
    const speaker = stable.at(-1)
    const talking = setInterval(() => say(speaker), 20)
    t.after(() => clearInterval(talking))
    await pause(1000)
    cluster.seats.filter(({ node }) => node === a).forEach((seat) => seat.client.connection.bind('state_change', ({ previous }) => previous === 'connected' && seat.close()))
    await a.drain()
    const ended = performance.now()
    await pause(2000)
    clearInterval(talking)
    await eventually(() => said(target).length === scene.sent(), `all of ${scene.sent()} client events`)
    assert.deepEqual(said(target), upTo(scene.sent()))
    assert.equal(target.delivered.length, target.told.length, 'no repeats')
    await target.hears(`member_removed ${ROOM} stays-A`)
    const silence = longestSilence(target)
    assert.ok(silence < 3000, `nothing was sent for ${Math.round(silence)} ms`)
    t.diagnostic(`longest silence ${Math.round(silence)} ms, ended ${Math.round(performance.now() - ended)} ms ago`)
    await target.verified()
  })

  for (const [what, { server, isEmpty, away }] of Object.entries({
    'with its data': { server: { appendonly: true }, away: 3000 }, 'empty': { isEmpty: true, away: 3000 }, 'empty at once': { isEmpty: true, away: 0 },
  })) {
    test(`redis is killed and comes back ${what}`, async (t) => {
      const scene = await start(t, { server })
      const { cluster, target, stable, say } = scene
      await target.down()
      for (let n = 0; n < 9; n += 1) say()
      // Before Redis dies they are to be in it: all nine are then with the node that sends, which has read them there.
      await eventually(() => stable.every((seat) => seat.log(CHAT).events.length === 6), 'client events at the seats')
      const queued = () => Promise.all(cluster.alive.map((node) => node.metric('soundpost_webhooks_queued')))
      await eventually(async () => Math.max(...(await queued())) >= 9, 'queue in Redis')
      await cluster.redis.kill()
      if (away > 0) {
        for (const node of cluster.alive) await eventually(async () => isDegraded(await node.health('/ready')), `degraded node ${node.name}`)
        // Somebody comes meanwhile, and somebody else comes and goes.
        await cluster.seated(cluster.nodes[1], 'meanwhile', [ROOM])
        ;(await cluster.seated(cluster.nodes[2], 'glimpse', [ROOM])).close()
        await pause(away)
      }
      await cluster.redis.start({ isEmpty })
      await target.up()
      const back = performance.now()
      for (const node of cluster.alive) await cluster.isReady(node)
      await cluster.seated(cluster.nodes[0], 'after', ['last'])
      await target.hears('channel_occupied last', 30_000)
      if (away > 0) await target.hears(`member_added ${ROOM} meanwhile`)
      say()
      await eventually(() => said(target).includes(10), 'client event')
      if (!isEmpty) await eventually(() => said(target).length === 10, 'all client events', 30_000)
      const numbers = assertInOrder(scene)
      await pause(NOT_TOLD)
      assertQuiet(scene)
      t.diagnostic(`redis back ${what}: ${numbers.length} of 10 client events came, ${words(target).length} others, after ${Math.round(performance.now() - back)} ms`)
      await target.verified({ brokenMax: 4 })
    })
  }

  for (const [what, begin] of Object.entries({
    'a Redis Cluster': async (t) => {
      const redis = await startRedisCluster()
      t.after(() => redis.stop())
      return { redis, settings: { redis: { cluster: redis.servers.map(({ port }) => `127.0.0.1:${port}`) } } }
    },
    'Sentinel': async (t) => {
      const redis = await startSentinel()
      t.after(() => redis.stop())
      return { redis, settings: { redis: { sentinels: [`127.0.0.1:${redis.sentinel.port}`], master: MASTER } } }
    },
  })) {
    test(`over ${what}: who comes, talks, goes and changes the node, and a node that is killed`, async (t) => {
      const scene = await start(t, await begin(t))
      const { cluster, target, say, nodes: [a, b, c] } = scene
      const visitor = await cluster.seated(a, 'visitor', [ROOM])
      visitor.close()
      await pause(HOLD / 2)
      await cluster.seated(c, 'visitor', [ROOM])
      for (let n = 0; n < 30; n += 1) say()
      await eventually(() => said(target).length === 30, 'client events')
      assert.deepEqual(sorted(said(target)), upTo(30))
      const [gone, dies] = [await cluster.seated(b, 'gone', [ROOM]), await cluster.seated(a, 'dies', [ROOM, 'alone'])]
      await target.hears('channel_occupied alone')
      gone.close()
      await a.kill()
      cluster.abandon(a)
      for (const word of [`member_removed ${ROOM} gone`, `member_removed ${ROOM} dies`, 'channel_vacated alone', `member_removed ${ROOM} stays-A`]) await target.hears(word, 30_000)
      const twice = words(target).filter((word, at, all) => all.indexOf(word) !== at)
      assert.deepEqual(twice, [])
      assert.ok(!target.words.includes(`member_removed ${ROOM} ${visitor.user}`), 'who changed the node')
      await target.verified({ brokenMax: 4 })
    })
  }

  test('a target that fails now and then, nodes that stand still: each event once by its id', async (t) => {
    const stubborn = failing(1)
    const answer = (response, request) => (Number.parseInt(request.header('X-Pusher-Signature').slice(0, 2), 16) < 20 ? stubborn : healthy)(response, request)
    const scene = await start(t, { answer })
    const { target, stable, say, nodes: [a] } = scene
    const speaker = stable.at(-1)
    const talking = setInterval(() => say(speaker), 20)
    t.after(() => clearInterval(talking))
    await pause(1000)
    a.pause()
    // Longer than its lease: another sends, and it wakes up as one who does not.
    await pause(9000)
    a.resume()
    await pause(4000)
    clearInterval(talking)
    await eventually(() => said(target).length === scene.sent(), `all of ${scene.sent()} client events`, 60_000)
    const numbers = said(target)
    assert.deepEqual(sorted(numbers), upTo(scene.sent()))
    t.diagnostic(`${numbers.length} client events, ${target.delivered.length - target.told.length} came twice, ${numbers.filter((n, at) => at > 0 && n < numbers[at - 1]).length} behind a later one`)
    await target.verified({ brokenMax: 4 })
  })
})

/** The longest time between two requests, milliseconds. */
function longestSilence({ requests }) {
  return Math.max(...requests.slice(1).map(({ at }, n) => at - requests[n].at))
}
