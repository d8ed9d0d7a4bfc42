// The page of components.test.mjs in React, with every hook of @laravel/echo-react that talks to the server.

import {
  configureEcho, useConnectionStatus, useEcho, useEchoModel, useEchoNotification, useEchoPresence, useEchoPublic, useSocketId,
} from '@laravel/echo-react'
import { StrictMode, createElement as h, useEffect, useState } from 'react'
import { createRoot } from 'react-dom/client'

function Room() {
  const status = useConnectionStatus()
  const socketId = useSocketId()
  const [members, setMembers] = useState([])
  const [heard, setHeard] = useState([])
  const hear = (what) => (value) => setHeard((before) => [...before, [what, value]])

  useEchoPublic('news', 'Posted', hear('public'))
  useEcho('orders.1', ['Shipped', '.order.paid'], hear('private'))
  useEchoNotification('App.Models.User.1', hear('notification'))
  useEchoModel('App.Models.Order', 7, 'OrderUpdated', hear('model'))
  const room = useEchoPresence('room', 'Said', hear('presence'))

  useEffect(() => {
    const channel = room.channel()
    const whispered = hear('whisper')
    channel
      .here((all) => setMembers(all.map(({ id }) => id)))
      .joining(({ id }) => setMembers((before) => [...new Set([...before, id])]))
      .leaving(({ id }) => setMembers((before) => before.filter((member) => member !== id)))
      .listenForWhisper('typing', whispered)
    return () => void channel.stopListeningForWhisper('typing', whispered)
  }, [])

  return h('main', {}, [
    h('p', { key: 's', id: 'status' }, status),
    h('p', { key: 'i', id: 'socket-id' }, socketId),
    h('p', { key: 'm', id: 'members' }, [...members].sort().join(' ')),
    h('ul', { key: 'h', id: 'heard' }, heard.map((item, index) => h('li', { key: index }, JSON.stringify(item)))),
    h('button', { key: 'w', id: 'whisper', onClick: () => room.channel().whisper('typing', { by: 'page' }) }, 'Whisper'),
  ])
}

function App() {
  const [isOpen, setOpen] = useState(true)
  const close = h('button', { key: 'b', id: 'close', onClick: () => setOpen(false) }, 'Close')
  return isOpen ? [h(Room, { key: 'r' }), close] : 'closed'
}

configureEcho(window.echoOptions)
// As in development: everything is mounted, unmounted and mounted again.
createRoot(document.getElementById('app')).render(h(StrictMode, {}, h(App)))
