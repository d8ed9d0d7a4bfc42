// Webhooks of several nodes over one Redis: each event once, whoever is killed.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Crowd } from '../crowd.mjs'
import { APP, eventually, lateBy } from '../harness.mjs'
import { HOLD, NOT_TOLD, TOLD_WITHIN, pause } from '../webhook_stage.mjs'
import { hanging, healthy, inWords, startTarget } from '../webhook_target.mjs'
import { ROOM } from './scene.mjs'
import { startCluster } from './stage.mjs'

/** From the death of a node until another has noticed it and sent what it left, milliseconds; the number. */
const FINISHED = 10_000

/** A cluster whose app has webhooks. The first node is there before the others, and so sends, until it is gone. */
async function start(t, webhooks, { app = {}, ...more } = {}) {
  const settings = { app: { client_events_per_second: 0, ...app }, webhooks }
  const cluster = await startCluster(t, { nodes: 1, settings, ...more })
  cluster.isListed = false
  const leases = async () => (await cluster.redis.ask('KEYS', `${cluster.names}:{*/@webhook/*}:o`)).length
  await eventually(async () => (await leases()) === webhooks.length, 'lease of the first node')
  await cluster.node()
  await cluster.node()
  return cluster
}

describe('webhooks of three nodes', { concurrency: 2 }, () => {
  test('each event is told once, and who changes the node is not', async (t) => {
    const target = await startTarget(t)
    const cluster = await start(t, [{ url: target.url }], { app: { subscription_count: true } })
    const [a, b, c] = cluster.nodes
    const [ada, ben, cy] = [await cluster.seat(a, 'ada'), await cluster.seat(b, 'ben'), await cluster.seat(c, 'cy')]
    const expected = []
    const tells = (...words) => target.tells(...(expected.push(...words), expected))

    // The same user at two nodes, and somebody else at the third.
    await ada.join(ROOM, 'orders')
    await tells(`channel_occupied ${ROOM}`, `member_added ${ROOM} ada`, 'channel_occupied orders', 'subscription_count orders 1')
    const twin = await cluster.seated(b, 'ada', [ROOM])
    await ben.join('orders')
    await tells('subscription_count orders 2')
    await cy.join(ROOM, 'private-chat')
    await tells(`member_added ${ROOM} cy`, 'channel_occupied private-chat', 'subscription_count private-chat 1')
    await ben.join('private-chat', 'cache-prices')
    await tells('subscription_count private-chat 2', 'channel_occupied cache-prices', 'subscription_count cache-prices 1', 'cache_miss cache-prices')
    ben.client.channel('private-chat').trigger('client-x', { n: 1 })
    await tells('client_event private-chat client-x')

    // From one node to another, within the time; and the twin alone is left, then nobody, then somebody again.
    const away = performance.now()
    cy.leave(ROOM)
    ada.close()
    await tells('subscription_count orders 1')
    const back = await cluster.seated(a, 'cy', [ROOM])
    const gap = Math.round(performance.now() - away)
    assert.ok(gap < HOLD, `the machine took ${gap} ms for it`)
    await pause(HOLD)
    await tells()
    const left = performance.now()
    twin.close()
    // Else their order is a matter of chance: they are on two nodes.
    await eventually(async () => (await cluster.get(a, `/channels/${ROOM}`, { info: 'user_count' })).user_count === 1, 'departure')
    back.close()
    expected.push(`member_removed ${ROOM} ada`, `member_removed ${ROOM} cy`, `channel_vacated ${ROOM}`)
    for (const word of expected.slice(-3)) {
      const after = Math.round((await target.hears(word)).request.at - left)
      assert.ok(after > HOLD - 100 && after < HOLD + lateBy(TOLD_WITHIN), `${word} after ${after} ms`)
    }
    await cluster.seated(c, 'ada', [ROOM])
    await tells(`channel_occupied ${ROOM}`, `member_added ${ROOM} ada`)
    assert.equal(target.delivered.length, target.told.length, 'no repeats')
    await cluster.finish()
    t.diagnostic(`${await target.verified()} requests, each verified by both SDKs`)
  })

  test('a node is killed with departures that it holds, a queue, and a request under way: another finishes all', async (t) => {
    const target = await startTarget(t)
    const cluster = await start(t, [{ url: target.url }])
    const [a, b] = cluster.nodes
    const [stays, leaves, dies] = [await cluster.seated(b, 'stays', [ROOM, 'private-chat']), await cluster.seated(a, 'leaves', [ROOM]), await cluster.seated(a, 'dies', [ROOM, 'private-chat', 'alone'])]
    await cluster.seated(a, 'moves', [ROOM])
    await target.tells(
      `channel_occupied ${ROOM}`, `member_added ${ROOM} stays`, 'channel_occupied private-chat', `member_added ${ROOM} leaves`, `member_added ${ROOM} dies`, 'channel_occupied alone',
      `member_added ${ROOM} moves`,
    )
    target.answer = hanging
    const begun = target.requests.length
    stays.client.channel('private-chat').trigger('client-n', 0)
    await eventually(() => target.requests.length > begun, 'request under way')
    const underWay = target.requests.at(-1)
    for (let n = 1; n < 10; n += 1) (n % 2 ? stays : dies).client.channel('private-chat').trigger('client-n', n)
    leaves.close()
    await eventually(async () => (await cluster.get(b, `/channels/${ROOM}`, { info: 'user_count' })).user_count === 3, 'departure')
    // What a killed node had not given to Redis yet is lost: all ten are there, and this node, which sends, has read them.
    await eventually(async () => (await a.metric('soundpost_webhooks_queued')) >= 10, 'queue in Redis')
    await target.down()
    const killed = performance.now()
    await a.kill()
    cluster.abandon(a)
    await cluster.seated(b, 'moves', [ROOM])
    await pause(1000 - (performance.now() - killed))
    target.answer = healthy
    await target.up()

    await target.hears(`member_removed ${ROOM} leaves`, lateBy(FINISHED))
    const chat = () => target.told.filter(({ name }) => name === 'client_event')
    await eventually(() => chat().length === 10, 'all client events', lateBy(FINISHED))
    const finished = performance.now() - killed
    assert.deepEqual(chat().filter(({ data }) => data % 2 === 0).map(({ data }) => Number(data)), [0, 2, 4, 6, 8])
    assert.deepEqual(chat().filter(({ data }) => data % 2 === 1).map(({ data }) => Number(data)), [1, 3, 5, 7, 9])
    assert.equal(chat().find(({ data }) => data === '0').id, underWay.ids[0], 'sent again with the same id')
    await target.hears(`member_removed ${ROOM} dies`)
    await target.hears('channel_vacated alone')
    const counts = Object.entries(countBy(target.words)).filter(([word, count]) => count > 1 && !word.startsWith('client_event'))
    assert.deepEqual(counts, [], 'told twice with another id')
    assert.ok(!target.words.includes(`member_removed ${ROOM} moves`), 'who found another node was never gone')
    const dead = (await target.hears(`member_removed ${ROOM} dies`)).request.at - killed
    await target.verified({ brokenMax: 4 })
    t.diagnostic(`finished ${Math.round(finished)} ms after the node was killed, the target back after 1000; its members told of after ${Math.round(dead)} ms`)
  })
})

// By itself: it needs the whole machine for a moment, and so would what is beside it.
test('a storm: 500 members reload their pages at three nodes, and nothing is told', async (t) => {
  const target = await startTarget(t)
  const cluster = await start(t, [{ url: target.url, batch_milliseconds: 100 }])
  const [a, b, c] = cluster.nodes
  const crowd = new Crowd(APP, ROOM, 500)
  t.after(() => crowd.leave())
  await crowd.join(a, b, c)
  await target.counts(501)
  const before = target.requests.length
  const began = performance.now()
  const connections = async () => (await Promise.all(cluster.nodes.map((node) => node.metric('soundpost_connections')))).reduce((sum, one) => sum + one)
  const longest = await crowd.reload(connections, a, b, c)
  const took = Math.round(performance.now() - began)
  assert.ok(longest < HOLD - 200, `the machine took ${longest} ms for a part of them`)
  await pause(NOT_TOLD)
  await cluster.seated(a, 'ada', ['last'])
  await target.hears('channel_occupied last')
  assert.deepEqual(target.requests.slice(before).flatMap(({ events }) => events.map(inWords)), ['channel_occupied last'])
  t.diagnostic(`500 left and came back, to another node, within ${took} ms, each for at most ${Math.round(longest)} ms; webhooks meanwhile: 0`)
  await target.verified()
})

function countBy(list) {
  const counts = {}
  for (const item of list) counts[item] = (counts[item] ?? 0) + 1
  return counts
}
