// The chat's backend: serves the page, signs subscriptions, publishes messages. Everything live goes through Soundpost.
//
// Who is who: the page says so in two headers, which is enough for a demonstration and for nothing else. A real
// application takes the user from its session.

import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import http from 'node:http'
import Pusher from 'pusher'

const env = process.env
const port = Number(env.PORT ?? 3000)
const soundpost = { host: env.PUSHER_HOST ?? '127.0.0.1', port: Number(env.PUSHER_PORT ?? 8080) }
const app = {
  appId: env.PUSHER_APP_ID ?? 'soundpost',
  key: env.PUSHER_APP_KEY ?? 'soundpost-key',
  secret: env.PUSHER_APP_SECRET ?? 'soundpost-secret',
}
const pusher = new Pusher({ ...app, host: soundpost.host, port: String(soundpost.port), useTLS: false, timeout: 5000 })

const ROOMS = ['lobby', 'workshop', 'concert-hall']
const HISTORY_MAX = 50
const BODY_BYTES_MAX = 16 * 1024
const TEXT_CHARS_MAX = 1000
const history = new Map(ROOMS.map((room) => [room, []]))

/** What the page may load: the address, the file, its type. Nothing comes from another host. */
const script = 'text/javascript; charset=utf-8'
const FILES = {
  '/': ['public/index.html', 'text/html; charset=utf-8'],
  '/style.css': ['public/style.css', 'text/css; charset=utf-8'],
  '/chat.js': ['public/chat.js', script],
  '/vendor/echo.js': ['node_modules/laravel-echo/dist/echo.js', script],
  '/vendor/pusher.js': ['node_modules/pusher-js/dist/web/pusher.min.js', script],
}

const POLICY = "default-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; frame-ancestors 'none'"

/** An answer other than 200, thrown from wherever it becomes clear. */
class Refusal extends Error {
  constructor(status, message) {
    super(message)
    this.status = status
  }
}

async function bodyOf(request) {
  let body = ''
  for await (const chunk of request.setEncoding('utf8')) {
    body += chunk
    if (body.length > BODY_BYTES_MAX) throw new Refusal(413, 'too long')
  }
  return body
}

function userOf({ headers }) {
  const id = headers['x-user-id'] ?? ''
  let name
  try {
    name = decodeURIComponent(headers['x-user-name'] ?? '').trim()
  } catch {
    throw new Refusal(400, 'a name that cannot be read')
  }
  if (!/^[a-z0-9-]{1,40}$/.test(id) || name === '' || name.length > 40) throw new Refusal(403, 'who are you?')
  return { id, name }
}

function roomOf(name) {
  if (!ROOMS.includes(name)) throw new Refusal(404, 'no such room')
  return name
}

/** Laravel's `/broadcasting/auth`: lets the user join a room, or not. */
async function authorize(request) {
  const { id, name } = userOf(request)
  const form = new URLSearchParams(await bodyOf(request))
  const channel = form.get('channel_name') ?? ''
  if (!channel.startsWith('presence-room.')) throw new Refusal(403, 'no such channel')
  roomOf(channel.slice('presence-room.'.length))
  try {
    return pusher.authorizeChannel(form.get('socket_id'), channel, { user_id: id, user_info: { id, name } })
  } catch (error) {
    throw new Refusal(400, error.message)
  }
}

/** Publishes a message to everyone but the connection that wrote it, as Laravel's `toOthers()` does. */
async function send(request) {
  const user = userOf(request)
  let body
  try {
    body = JSON.parse(await bodyOf(request)) ?? {}
  } catch (error) {
    throw error instanceof Refusal ? error : new Refusal(400, 'not JSON')
  }
  const room = roomOf(body.room)
  const text = String(body.text ?? '').trim()
  if (text === '' || text.length > TEXT_CHARS_MAX) throw new Refusal(422, `1 to ${TEXT_CHARS_MAX} characters, please`)

  const message = { id: crypto.randomUUID(), room, user, text, sentAt: new Date().toISOString() }
  const except = request.headers['x-socket-id']
  const others = /^\d+\.\d+$/.test(except ?? '') ? { socket_id: except } : {}
  await pusher.triggerBatch([
    { channel: `presence-room.${room}`, name: 'message.sent', data: message, ...others },
    { channel: 'rooms', name: 'App\\Events\\RoomActive', data: { room }, ...others },
  ])
  const kept = history.get(room)
  kept.push(message)
  if (kept.length > HISTORY_MAX) kept.shift()
  return message
}

/** The JSON that answers the request, or a file. */
async function answer(request) {
  const { pathname, searchParams } = new URL(request.url, 'http://chat')
  switch (`${request.method} ${pathname}`) {
    case 'POST /broadcasting/auth':
      return { json: await authorize(request) }
    case 'POST /messages':
      return { json: await send(request) }
    case 'GET /messages':
      return { json: history.get(roomOf(searchParams.get('room'))) }
    case 'GET /settings':
      return { json: { key: app.key, ...soundpost, rooms: ROOMS } }
  }
  const [file, type] = FILES[pathname] ?? []
  if (request.method !== 'GET' || file === undefined) throw new Refusal(404, 'not here')
  return { body: await readFile(new URL(file, import.meta.url)), type }
}

const listener = http.createServer(async (request, response) => {
  response.setHeader('Content-Security-Policy', POLICY)
  response.setHeader('X-Content-Type-Options', 'nosniff')
  try {
    const { json, body = JSON.stringify(json), type = 'application/json; charset=utf-8' } = await answer(request)
    response.writeHead(200, { 'Content-Type': type, 'Cache-Control': 'no-store' }).end(body)
  } catch (error) {
    const status = error instanceof Refusal ? error.status : 502
    if (status === 502) console.error(`soundpost at ${soundpost.host}:${soundpost.port}: ${error.body ?? error.error?.code ?? error.message}`)
    const text = status === 502 ? 'The broadcast server cannot be reached.' : error.message
    response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' }).end(text)
  }
})
listener.listen(port, '127.0.0.1')
await once(listener, 'listening')
console.log(`Chat on http://127.0.0.1:${listener.address().port} (open it twice), Soundpost on port ${soundpost.port}`)
