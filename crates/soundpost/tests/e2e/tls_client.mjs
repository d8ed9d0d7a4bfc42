// Real clients with TLS, in a process that trusts the test's root: `node tls_client.mjs PORT` says on its standard
// output what happened. Node.js reads NODE_EXTRA_CA_CERTS only when it starts, hence the process.

import { Clients, named, reached, sdk, subscribed } from './harness.mjs'
import { SECRET } from './tls.mjs'

const server = { port: Number(process.argv[2]) }
const options = { wsHost: 'localhost', enabledTransports: ['ws', 'wss'] }
const clients = new Clients()
const said = {}

const secure = clients.pusher(server, { ...options, forceTLS: true })
const { inbox } = await subscribed(secure, 'orders')
const publisher = sdk(server, { secret: SECRET, host: 'localhost', useTLS: true })
const { status } = await publisher.trigger('orders', 'shipped', { id: 7, text: 'x'.repeat(60_000) })
const { data } = await inbox.next(named('shipped'), 'the event')
said.published = { status, id: data.id, length: data.text.length }

// It begins in plain, is told 4000, and comes back with TLS.
const errors = []
const plain = clients.pusher(server, { ...options, forceTLS: false })
plain.connection.bind('error', ({ error }) => errors.push(error?.data?.code))
await reached(plain, 'connected')
said.plain = { errors, socket: plain.connection.connection.transport.socket.url.split('//')[0] }
await publisher.trigger('orders', 'again', {})
said.again = (await inbox.next(named('again'), 'the second event')).event

clients.close()
console.log(JSON.stringify(said))
