// The harness itself: a proxy that does not break what it should, or a check that finds nothing, would make every test
// of a fault pass.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { describe, test } from 'node:test'
import { Inbox, eventually } from '../harness.mjs'
import { startFaultProxy } from './fault_proxy.mjs'
import { account } from './publisher.mjs'
import { startRedis, startRedisCluster, startSentinel } from './redis.mjs'
import { remains } from './remains.mjs'
import { startCluster } from './stage.mjs'

/** Long enough for a byte to arrive that is not held back, milliseconds. */
const A_WHILE = 100

/** A server that sends back what it gets, a proxy in front of it, and a connection through that. */
async function line(t) {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => socket.on('error', () => {}).pipe(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const proxy = await startFaultProxy(server.address())
  t.after(() => proxy.stop())
  return { proxy, ...(await dial(t, proxy)) }
}

async function dial(t, { port }) {
  const socket = net.connect(port, '127.0.0.1')
  t.after(() => socket.destroy())
  const [got, ends] = [new Inbox(), new Inbox()]
  socket.on('data', (chunk) => [...chunk.toString()].forEach(got.push)).on('error', () => {}).on('close', () => ends.push('closed'))
  // One that is refused may never have been.
  await new Promise((resolve) => socket.once('connect', resolve).once('close', resolve))
  return { socket, got, ends }
}

const text = async (got, length) => {
  const letters = []
  while (letters.length < length) letters.push(await got.next())
  return letters.join('')
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

describe('the fault proxy', () => {
  test('passes everything on, ends included', async (t) => {
    const { socket, got, ends, proxy } = await line(t)
    socket.write('abc')
    assert.equal(await text(got, 3), 'abc')
    socket.end('d')
    assert.equal(await text(got, 1), 'd')
    await ends.next()
    await eventually(() => proxy.connections() === 0, 'end of both sides')
  })

  test('delays, one direction or both', async (t) => {
    const { socket, got, proxy } = await line(t)
    for (const [directions, least] of [[['up'], 200], [['up', 'down'], 400]]) {
      proxy.delay(200, directions)
      const began = performance.now()
      socket.write('a')
      await got.next()
      assert.ok(performance.now() - began >= least - 5)
    }
  })

  test('stalls, keeps what is on its way and the connection, and brings it when it is well again', async (t) => {
    for (const directions of [['up'], ['down'], ['up', 'down']]) {
      const { socket, got, ends, proxy } = await line(t)
      proxy.stall(directions)
      socket.write('ab')
      await pause(A_WHILE)
      assert.deepEqual([got.rest, ends.rest], [[], []])
      proxy.heal()
      assert.equal(await text(got, 2), 'ab')
    }
  })

  test('over a stalled line not even the end of the other side is heard', async (t) => {
    const { socket, ends, proxy } = await line(t)
    const other = await dial(t, proxy)
    proxy.stall()
    socket.resetAndDestroy()
    await pause(A_WHILE)
    assert.equal(proxy.connections(), 2)
    proxy.heal()
    await eventually(() => proxy.connections() === 1, 'end of the one that broke')
    other.socket.write('a')
    await other.got.next()
    assert.equal(ends.rest.length, 1)
  })

  test('breaks off in the middle of an answer, refuses, throttles', async (t) => {
    const { socket, got, ends, proxy } = await line(t)
    proxy.cutAfter(3)
    socket.write('abcdef')
    assert.equal(await text(got, 3), 'abc')
    await ends.next()
    proxy.refuse()
    const refused = await dial(t, proxy)
    await refused.ends.next()
    proxy.heal()
    proxy.throttle(100, ['down'])
    const slow = await dial(t, proxy)
    const began = performance.now()
    for (const letter of 'ab') {
      slow.socket.write(letter.repeat(20))
      await text(slow.got, 20)
    }
    assert.ok(performance.now() - began >= 190)
  })
})

test('redis comes back on its port with what it had saved, or with nothing', async (t) => {
  for (const appendonly of [false, true]) {
    const redis = await startRedis({ appendonly })
    t.after(() => redis.stop())
    const { port } = redis
    await redis.ask('SET', 'old', 1)
    await redis.save()
    await redis.ask('SET', 'new', 1)
    await redis.kill()
    await assert.rejects(redis.ask('PING'))
    await redis.start()
    assert.equal(redis.port, port)
    assert.deepEqual(await redis.ask('MGET', 'old', 'new'), ['1', appendonly ? '1' : null])
    await redis.kill()
    await redis.start({ isEmpty: true })
    assert.deepEqual(await redis.ask('KEYS', '*'), [])
  }
})

test('what is left in redis is found', async (t) => {
  const redis = await startRedis()
  t.after(() => redis.stop())
  const [names, life] = ['soundpost:0:reverb', '0123456789abcdef']
  const left = () => remains([redis], names, 1)
  await redis.ask('SET', `${names}:{nodes}:lease:${life}`, '', 'PX', 60_000)
  await redis.ask('ZADD', `${names}:{nodes}:lives`, 1, life)
  await redis.ask('HSET', `${names}:{app/x}:s:${life}`, 's', 1)
  await redis.ask('PEXPIRE', `${names}:{app/x}:s:${life}`, 60_000)
  await redis.ask('SET', 'other:0:reverb:what', 1)
  assert.deepEqual(await left(), [])
  for (const [words, found] of [
    [['HSET', `${names}:{app/y}:s:${life}`, 's', 1, 'ada', 2], `share ${names}:{app/y}:s:${life}`],
    [['HSET', `${names}:{app/x}:l`, life, 2], `key ${names}:{app/x}:l`],
    [['SADD', `${names}:{${life}}:i`, 'x'], `index ${names}:{${life}}:i`],
    [['SET', `${names}:{app/x}:d:${life}`, ''], `tombstone without an end: ${names}:{app/x}:d:${life}`],
  ]) {
    await redis.ask(...words)
    assert.deepEqual(await left(), [found])
    await redis.ask('DEL', words[1])
  }
  await redis.ask('ZADD', `${names}:{nodes}:lives`, 1, 'fedcba9876543210')
  assert.match((await left()).join(), /lives/)
})

test('lost, doubled and reversed events are counted', () => {
  const record = (by, n, status = 200) => ({ by, n, channel: 'x', began: n, took: 0, status })
  const publishers = [
    { name: 'p', records: [record('p', 1), record('p', 2), record('p', 3, 503)] },
    { name: 'q', records: [record('q', 1)] },
  ]
  const seat = (...names) => ({
    user: 'ada',
    node: { name: 'A' },
    logs: [{ name: 'x', since: 0, events: names.map(([by, n]) => ({ event: 'numbered', data: { by, n: Number(n) } })) }],
  })
  const of = (seats, options) => {
    const { lost, duplicated, reversed, excused } = account(publishers, seats, options)
    return { lost, duplicated, reversed, excused }
  }
  const none = { lost: 0, duplicated: 0, reversed: 0, excused: 0 }
  assert.deepEqual(of([seat('p1', 'q1', 'p2'), seat('p1', 'q1', 'p2', 'p3')]), none)
  assert.deepEqual(of([seat('p1', 'q1')]), { ...none, lost: 1 })
  assert.deepEqual(of([seat('p1', 'q1')], { excuses: ({ n }) => n === 2 }), { ...none, excused: 1 })
  assert.deepEqual(of([seat('p1', 'q1', 'p2', 'p2')]), { ...none, duplicated: 1 })
  assert.deepEqual(of([seat('p2', 'p1', 'q1')]), { ...none, reversed: 1 })
  const twoOrders = [seat('p1', 'q1', 'p2'), seat('q1', 'p1', 'p2')]
  assert.deepEqual(of(twoOrders), { ...none, reversed: 1 })
  assert.deepEqual(of(twoOrders, { ordered: false }), none)
})

test('one node without redis passes the checks of a cluster', async (t) => {
  const cluster = await startCluster(t, { nodes: 1, redis: null })
  const [node] = cluster.nodes
  const names = ['presence-room', 'orders']
  const ada = await cluster.seated(node, 'ada', names)
  const ben = await cluster.seated(node, 'ben', names)
  const publisher = cluster.publisher('p', node)
  publisher.start(names, { everyMilliseconds: 1 })
  await eventually(() => ada.log('orders').events.length > 20, 'events')
  await cluster.agreed(performance.now())
  ben.leave('presence-room')
  await eventually(() => ada.log('presence-room').roster.size === 1, 'leave')
  await ben.join('presence-room')
  await cluster.agreed(performance.now())
  assert.deepEqual(cluster.transitions(0, 'ben').map(({ change }) => change), ['added', 'removed', 'added'])
  assert.ok((await ada.ping()) < 5000)
  await publisher.stop()
  ben.close()
  await cluster.agreed(performance.now())
  const { sent, lost } = await cluster.finish()
  assert.ok(sent > 20 && lost === 0)
})

test('a sentinel names another master, a cluster loses a third and has it again', async (t) => {
  const [redis, sharded] = await Promise.all([startSentinel(), startRedisCluster()])
  t.after(() => Promise.all([redis.stop(), sharded.stop()]))
  const before = await redis.current()
  await before.kill()
  await eventually(async () => (await redis.current()) !== before, 'another master')
  assert.equal((await (await redis.current()).ask('ROLE'))[0], 'master')

  const [first, second] = sharded.servers
  const isWhole = async () => /cluster_slots_ok:16384/.test(await first.ask('CLUSTER', 'INFO'))
  await second.kill()
  await eventually(async () => !(await isWhole()), 'loss of a third')
  await second.start()
  await eventually(isWhole, 'whole cluster')
})
