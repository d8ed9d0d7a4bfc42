// The target itself: one that takes everything, or SDKs that are not asked, would make every test of webhooks pass.

import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import http from 'node:http'
import { test } from 'node:test'
import { APP } from './harness.mjs'
import { failing, huge, redirecting, startTarget } from './webhook_target.mjs'

/** A webhook as it is to be, with one `change`. */
async function send({ port }, change = {}) {
  const { body, secret, key, type, time, names } = {
    secret: APP.secret, key: APP.key, type: 'application/json', time: Date.now(), names: ['X-Pusher-Key', 'X-Pusher-Signature'], ...change,
  }
  const text = body ?? `{"time_ms":${time},"events":[{"name":"channel_occupied","channel":"orders"}]}`
  const signature = createHmac('sha256', secret).update(text).digest('hex')
  const headers = {
    'Content-Type': type, [names[0]]: key, [names[1]]: signature, 'X-Soundpost-Event-Ids': '2f.1', 'User-Agent': 'Soundpost/0.1.0',
    'Content-Length': Buffer.byteLength(text),
  }
  const request = http.request({ port, host: '127.0.0.1', path: '/webhook', method: 'POST', headers, agent: false })
  request.end(text)
  const [response] = await Promise.all([new Promise((resolve, reject) => request.on('response', resolve).on('error', reject))])
  let bytes = 0
  for await (const chunk of response) bytes += chunk.length
  return { status: response.statusCode, bytes, headers: response.headers }
}

test('a webhook is read by both SDKs, in the words of the test', async (t) => {
  const target = await startTarget(t)
  assert.equal((await send(target)).status, 200)
  const [event] = await target.tells('channel_occupied orders')
  assert.equal(event.id, '2f.1')
  assert.deepEqual((await target.requests[0].verdict(APP)).events, [{ name: 'channel_occupied', channel: 'orders' }])
  assert.equal(await target.verified(), 1)
  // Sent again it is a repeat.
  await send(target)
  assert.deepEqual([target.delivered.length, target.told.length], [2, 1])
  await assert.rejects(target.tells())
})

test('what is not to the letter is found', async (t) => {
  for (const change of [
    { secret: 'another' }, { key: 'another' }, { type: 'application/json; charset=utf-8' }, { body: '{}' }, { time: Date.now() - 400_000 },
    { names: ['x-pusher-key', 'X-Pusher-Signature'] }, { names: ['X-Pusher-Key', 'X-PUSHER-SIGNATURE'] },
    { body: `{"time_ms": ${Date.now()},"events":[{"name":"channel_occupied","channel":"orders"}]}` },
  ]) {
    const target = await startTarget(t)
    await send(target, change)
    await assert.rejects(target.verified(), JSON.stringify(change))
  }
})

test('it answers as it is told to, and can be away', async (t) => {
  const target = await startTarget(t, { answer: failing(2) })
  const body = { body: `{"time_ms":${Date.now()},"events":[{"name":"channel_vacated","channel":"a"}]}` }
  for (const status of [500, 500, 200]) assert.equal((await send(target, body)).status, status)
  target.answer = redirecting('http://127.0.0.1:1/', 307)
  assert.deepEqual((({ status, headers }) => [status, headers.location])(await send(target, body)), [307, 'http://127.0.0.1:1/'])
  target.answer = huge(1 << 20)
  assert.equal((await send(target, body)).bytes, 1 << 20)
  await target.down()
  await assert.rejects(send(target), ({ code }) => code === 'ECONNREFUSED')
  await target.up()
  assert.equal((await send(target)).status, 200)
})
