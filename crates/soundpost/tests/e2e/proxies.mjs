// Real proxies in front of the server, as people run them: nginx and HAProxy, unprivileged, each with a configuration
// and a certificate made for the test.

import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startProgram } from './harness.mjs'
import { freePort } from './ports.mjs'

/** `nobody`, so that a proxy has no rights of its own even where the tests run as root. */
const USER = process.getuid() === 0 ? 65534 : undefined

/** Where Debian has what is mostly started by root, whose folder is not on everybody's path. */
const [NGINX, HAPROXY] = ['nginx', 'haproxy'].map((name) => {
  const file = path.join('/usr/sbin', name)
  return existsSync(file) ? file : name
})

/** A folder of its own for a proxy and its neighbours; everybody may enter it. */
export function makeFolder() {
  const folder = mkdtempSync(path.join(tmpdir(), 'soundpost-proxy-'))
  chmodSync(folder, 0o755)
  if (USER !== undefined) chownSync(folder, USER, USER)
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) }
}

/** Ports on which nobody listens. */
async function freePorts(count) {
  const ports = []
  while (ports.length < count) ports.push(await freePort())
  return ports
}

/** Whether somebody takes connections on the port. */
const listens = (port) =>
  new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })

/** A certificate for localhost that nobody has signed; gives the paths of both files. */
export function makeCertificate(folder) {
  const [certificate, key] = ['localhost.crt', 'localhost.key'].map((name) => path.join(folder, name))
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
  execFileSync('openssl', ['req', '-x509', ...kind, ...names, '-keyout', key, '-out', certificate], { stdio: 'ignore' })
  chmodSync(key, 0o644)
  return { certificate, key }
}

/**
 * Starts a proxy on `count` free ports with the configuration that `text` makes of them. A port may be taken between
 * looking and binding, so a start that fails is tried again on others.
 */
async function start(count, text, name, command, args) {
  const { folder, remove } = makeFolder()
  const file = path.join(folder, name)
  for (let tries = 3; ; tries -= 1) {
    const ports = await freePorts(count)
    writeFileSync(file, text(ports, folder))
    const answers = async () => (await Promise.all(ports.map(listens))).every(Boolean)
    try {
      // Killed, the first process of nginx would leave the others behind.
      const options = { cwd: folder, user: USER, answers, last: 'SIGTERM' }
      const program = await startProgram(command, args(file, folder), options)
      program.gone.then(remove)
      return Object.assign(program, { ports, port: ports[0], folder, file })
    } catch (error) {
      if (tries === 0 || !/in use/i.test(error.message)) throw error
    }
  }
}

/** The lines with which a location of nginx passes WebSockets on and says for whom. */
export const PASS = `
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_read_timeout 120s;`

/** Starts nginx; `http` gives what stands in its `http` block, `main` before it. `reload()` asks it to read both again. */
export async function startNginx(count, http, main = '') {
  const text = (ports, folder) => `
    ${main}
    pid ${folder}/nginx.pid;
    worker_processes 1;
    events { worker_connections 256; }
    http {
      access_log off;
      ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/${kind};`).join('\n      ')}
      map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
      ${http(ports, folder)}
    }`
  const common = (file, folder) => ['-e', 'stderr', '-p', folder, '-c', file]
  const args = (file, folder) => [...common(file, folder), '-g', 'daemon off; error_log stderr notice;']
  const nginx = await start(count, text, 'nginx.conf', NGINX, args)
  const reload = () => {
    const as = USER === undefined ? {} : { uid: USER, gid: USER }
    const words = [...common(nginx.file, nginx.folder), '-g', 'error_log stderr notice;', '-s', 'reload']
    execFileSync(NGINX, words, { ...as, stdio: 'ignore' })
  }
  return Object.assign(nginx, { reload })
}

/** Starts HAProxy; `sections` gives its frontends and backends. */
export const startHaproxy = (count, sections) => {
  const text = (ports, folder) => `
global
  maxconn 256
defaults
  mode tcp
  timeout connect 5s
  # Else as short as the time between two of them, within which a busy machine does not always answer.
  timeout check 5s
  timeout client 120s
  timeout server 120s
${sections(ports, folder)}
`
  return start(count, text, 'haproxy.cfg', HAPROXY, (file) => ['-db', '-f', file])
}
