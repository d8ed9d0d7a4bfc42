// The chat's page. Laravel Echo, used as in any Laravel application, does everything that is live.

import Echo from '/vendor/echo.js'

const TYPING_EVERY = 1500 // milliseconds between two whispers while someone types
const TYPING_LASTS = 4000 // milliseconds after the last whisper until the note goes
const GROUP_WITHIN = 5 * 60_000 // messages of one author this close together stand as one

const ABOUT = {
  lobby: 'Say hello before you tune up',
  workshop: 'Glue, varnish and work in progress',
  'concert-hall': 'After the last note, before the applause',
}

const $ = (id) => document.getElementById(id)
const titled = (room) => (room.charAt(0).toUpperCase() + room.slice(1)).replaceAll('-', ' ')
const element = (tag, className, ...children) => {
  const made = document.createElement(tag)
  if (className) made.className = className
  made.append(...children)
  return made
}

const settings = await (await fetch('/settings')).json()
const me = await introduce()
const headers = { 'X-User-Id': me.id, 'X-User-Name': encodeURIComponent(me.name) }
const echo = new Echo({
  broadcaster: 'reverb',
  key: settings.key,
  wsHost: settings.host,
  wsPort: settings.port,
  wssPort: settings.port,
  forceTLS: location.protocol === 'https:',
  enabledTransports: ['ws', 'wss'],
  auth: { headers },
})

let room
let channel
let whisperedAt = 0
const people = new Map()
const typing = new Map()
const shown = new Set()

/** Asks for a name once per tab, so that two tabs are two people. */
function introduce() {
  const kept = sessionStorage.getItem('me')
  if (kept) return JSON.parse(kept)
  $('welcome').showModal()
  return new Promise((resolve) => {
    $('welcome').addEventListener('cancel', (event) => event.preventDefault())
    $('join').addEventListener('submit', (event) => {
      event.preventDefault()
      const name = $('name').value.trim()
      if (name === '') return
      const made = { id: crypto.randomUUID(), name }
      sessionStorage.setItem('me', JSON.stringify(made))
      $('welcome').close()
      resolve(made)
    })
  })
}

/** A round picture of initials, in a colour that is the person's own. */
function paint(avatar, { id, name }) {
  const words = name.split(/\s+/).filter(Boolean)
  const initials = (words.length > 1 ? [words[0], words.at(-1)] : words).map((word) => [...word][0].toUpperCase())
  const hue = [...id].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7)
  avatar.textContent = initials.join('')
  avatar.style.setProperty('--hue', hue)
  return avatar
}

const avatarOf = (user) => {
  const avatar = paint(element('span', 'avatar'), user)
  avatar.setAttribute('aria-hidden', 'true')
  return avatar
}

function enter(next) {
  if (room) echo.leave(`room.${room}`)
  room = next
  people.clear()
  shown.clear()
  typing.forEach(clearTimeout)
  typing.clear()
  $('log').replaceChildren()
  $('room-title').textContent = titled(room)
  $('room-about').textContent = ABOUT[room] ?? ''
  $('text').placeholder = `Message ${titled(room)}`
  document.title = `${titled(room)} · Echo chat`
  for (const button of $('rooms').querySelectorAll('button')) {
    const current = button.dataset.room === room
    button.toggleAttribute('aria-current', current)
    if (current) delete button.dataset.unread
  }
  showPeople()
  showTyping()

  const entered = room
  channel = echo
    .join(`room.${room}`)
    .here((users) => {
      people.clear()
      users.forEach((user) => people.set(user.id, user))
      showPeople()
      // Also after a reconnection: what was said meanwhile is in the history.
      catchUp(entered)
    })
    .joining((user) => {
      people.set(user.id, user)
      showPeople()
      note(`${user.name} joined`)
    })
    .leaving((user) => {
      people.delete(user.id)
      stoppedTyping(user.id)
      showPeople()
      note(`${user.name} left`)
    })
    .listen('.message.sent', (message) => {
      stoppedTyping(message.user.id)
      show(message)
    })
    .listenForWhisper('user.typing', ({ id }) => {
      clearTimeout(typing.get(id))
      typing.set(id, setTimeout(stoppedTyping, TYPING_LASTS, id))
      showTyping()
    })
    .error(({ status }) => complain(`This room cannot be joined (${status}).`))
}

async function catchUp(entered) {
  const response = await fetch(`/messages?room=${entered}`)
  if (room === entered && response.ok) (await response.json()).forEach((message) => room === entered && show(message))
}

/** Adds a message, in order of time, once. */
function show(message) {
  if (shown.has(message.id)) return
  shown.add(message.id)
  const mine = message.user.id === me.id
  const sentAt = new Date(message.sentAt)
  const time = element('time', '', sentAt.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }))
  time.dateTime = message.sentAt
  const author = element('span', 'author', element('strong', '', mine ? 'You' : message.user.name), time)
  const item = element('li', mine ? 'message mine' : 'message', avatarOf(message.user), author, element('p', '', message.text))
  Object.assign(item.dataset, { author: message.user.id, at: sentAt.getTime() })

  const later = [...$('log').children].find((other) => Number(other.dataset.at) > sentAt.getTime())
  add(item, later, mine)
}

function note(text) {
  const item = element('li', 'note', text)
  item.dataset.at = Date.now()
  add(item)
}

function add(item, before = null, always = false) {
  const scroll = $('scroll')
  const atEnd = always || scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80
  $('log').insertBefore(item, before)
  for (const each of [item, item.nextElementSibling]) {
    const above = each?.previousElementSibling
    const follows = above?.dataset.author !== undefined && above.dataset.author === each.dataset.author
    each?.classList.toggle('follows', follows && each.dataset.at - above.dataset.at < GROUP_WITHIN)
  }
  if (atEnd) scroll.scrollTop = scroll.scrollHeight
}

function showPeople() {
  const byName = [...people.values()].sort((a, b) => (b.id === me.id) - (a.id === me.id) || a.name.localeCompare(b.name))
  $('people').replaceChildren(
    ...byName.map((user) => {
      const name = element('span', 'name', user.name)
      if (user.id === me.id) name.append(element('small', '', ' you'))
      const item = element('li', '', avatarOf(user), name)
      item.classList.toggle('is-typing', typing.has(user.id))
      return item
    }),
  )
  $('count').textContent = people.size === 1 ? '1 person here' : `${people.size} people here`
}

function stoppedTyping(id) {
  clearTimeout(typing.get(id))
  if (typing.delete(id)) showTyping()
}

function showTyping() {
  const names = [...typing.keys()].map((id) => people.get(id)?.name).filter(Boolean)
  const dots = element('span', 'dots', element('i'), element('i'), element('i'))
  const many = names.length > 2 ? 'Several people are typing' : `${names.join(' and ')} ${names.length > 1 ? 'are' : 'is'} typing`
  $('typing').replaceChildren(...(names.length ? [dots, many] : []))
  showPeople()
}

function complain(text = '') {
  $('problem').textContent = text
}

async function send() {
  const text = $('text').value.trim()
  if (text === '') return
  $('text').value = ''
  grow()
  whisperedAt = 0
  complain()
  const sentTo = room
  try {
    const response = await fetch('/messages', {
      method: 'POST',
      headers: { ...headers, 'Content-Type': 'application/json', 'X-Socket-ID': echo.socketId() ?? '' },
      body: JSON.stringify({ room, text }),
    })
    if (!response.ok) throw new Error(await response.text())
    const message = await response.json()
    if (room === sentTo) show(message)
  } catch (error) {
    if ($('text').value === '') $('text').value = text
    complain(`Not sent. ${error.message}`)
  }
}

/** The input grows with what is in it, up to what the style allows. */
function grow() {
  $('text').style.height = 'auto'
  $('text').style.height = `${$('text').scrollHeight}px`
}

const STATES = { connected: 'Connected', connecting: 'Connecting', failed: 'Out of reach', disconnected: 'Disconnected' }

function showConnection() {
  const status = echo.connectionStatus()
  $('status').textContent = STATES[status] ?? status
  $('status').dataset.state = status
}

function start() {
  paint($('my-avatar'), me)
  $('my-name').textContent = me.name
  $('rooms').append(
    ...settings.rooms.map((name) => {
      const button = element('button', '', element('span', 'hash', '#'), titled(name))
      Object.assign(button, { type: 'button', onclick: () => name !== room && enter(name) })
      button.dataset.room = name
      return element('li', '', button)
    }),
  )
  $('composer').addEventListener('submit', (event) => {
    event.preventDefault()
    send()
  })
  $('text').addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
    event.preventDefault()
    send()
  })
  $('text').addEventListener('input', () => {
    grow()
    if ($('text').value === '' || Date.now() - whisperedAt < TYPING_EVERY || !people.has(me.id)) return
    whisperedAt = Date.now()
    channel.whisper('user.typing', { id: me.id })
  })
  echo.connector.onConnectionChange(showConnection)
  showConnection()
  echo.channel('rooms').listen('RoomActive', ({ room: active }) => {
    const button = $('rooms').querySelector(`[data-room="${CSS.escape(active)}"]`)
    if (button && active !== room) button.dataset.unread = ''
  })
  $('app').inert = false
  enter(settings.rooms[0])
  $('text').focus()
}

start()
