// Certificates for TLS of the server's own, made with openssl: a root that nobody else knows, and what it issues.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { APP, configOf } from './harness.mjs'

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']

/** A root and a certificate for `localhost`, in a folder of their own; `remove()` when they are done with. */
export function makeCertificates() {
  const folder = mkdtempSync(path.join(tmpdir(), 'soundpost-tls-'))
  const at = (name) => path.join(folder, name)
  const openssl = (...args) => execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
  openssl('req', '-x509', ...KEY, '-keyout', 'root.key', '-out', 'root.crt', '-days', '2', '-subj', '/CN=root')
  openssl('req', ...KEY, '-keyout', 'localhost.key', '-out', 'localhost.csr', '-subj', '/CN=localhost')
  writeFileSync(at('names'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n')
  const by = ['-CA', 'root.crt', '-CAkey', 'root.key', '-CAcreateserial', '-days', '2', '-extfile', 'names']
  openssl('x509', '-req', '-in', 'localhost.csr', '-out', 'localhost.crt', ...by)
  const remove = () => rmSync(folder, { recursive: true, force: true })
  return { root: at('root.crt'), certificate: at('localhost.crt'), key: at('localhost.key'), remove }
}

/** A configuration with TLS, for the app that clients have without saying another. */
export function configWith({ certificate, key }) {
  return `[server.tls]\ncertificate = ${JSON.stringify(certificate)}\nkey = ${JSON.stringify(key)}\n${configOf({ ...APP, secret: SECRET })}`
}

/** The development app's secret is for servers without a configuration. */
export const SECRET = 'a-secret-of-sixteen-or-more'
