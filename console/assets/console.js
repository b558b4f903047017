// The page is whole without this script. With it, regions follow what the server sends, times are told as ages, what has
// changed is lit up, and "/" goes to the search.

const pulse = document.getElementById("pulse")

function say(text, state) {
  if (!pulse) return
  pulse.textContent = text
  pulse.dataset.state = state
}

// light marks what has changed. The mark ends with its animation.
function light(element) {
  if (!element?.closest("[data-lit]") || element.closest("time")) return
  element.removeAttribute("data-changed")
  void element.offsetWidth // so that the animation begins anew
  element.setAttribute("data-changed", "")
}
document.addEventListener("animationend", (e) => e.target.removeAttribute?.("data-changed"))

const isAlike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && !a.id && !b.id

// morph gives an element the children of another one. What is the same stays, with its focus and with what is open.
function morph(old, wanted) {
  let at = old.firstChild
  for (const next of [...wanted.childNodes]) {
    let same = null
    if (next.id) same = [...old.children].find((e) => e.id === next.id) ?? null
    else if (at && isAlike(at, next)) same = at
    if (!same) {
      old.insertBefore(next, at)
      if (next.nodeType === Node.ELEMENT_NODE) light(next)
      continue
    }
    if (same === at) at = at.nextSibling
    else old.insertBefore(same, at)
    update(same, next)
  }
  while (at) {
    const gone = at
    at = at.nextSibling
    gone.remove()
  }
}

function update(old, next) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== next.data) {
      const isBlank = !old.data.trim() && !next.data.trim()
      old.data = next.data
      if (!isBlank) light(old.parentElement)
    }
    return
  }
  if (old.nodeName === "TIME" && old.dateTime === next.dateTime) return
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && name !== "open" && name !== "data-changed") old.removeAttribute(name)
  }
  for (const { name, value } of [...next.attributes]) {
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value)
  }
  morph(old, next)
}

// ages tells times as what they are to people. The title has them in full.
const units = [["day", 86400], ["h", 3600], ["min", 60], ["s", 1]]

function ageOf(seconds) {
  const [unit, length] = units.find(([, n]) => Math.abs(seconds) >= n) ?? units[3]
  const n = Math.floor(Math.abs(seconds) / length)
  const text = unit === "day" ? `${n} day${n === 1 ? "" : "s"}` : `${n} ${unit}`
  return seconds < 0 ? `in ${text}` : `${text} ago`
}

function ages() {
  for (const t of document.querySelectorAll("main time")) {
    const at = new Date(t.dateTime)
    const text = ageOf((Date.now() - at) / 1000)
    if (t.textContent !== text) t.textContent = text
    if (t.dataset.of !== t.dateTime) {
      t.dataset.of = t.dateTime
      t.title = at.toLocaleString([], { dateStyle: "medium", timeStyle: "long" })
    }
  }
}

// connect shows what comes from the stream, while the page can be seen: nothing is read for a tab in the background.
const stream = document.body.dataset.stream
let events = null

function connect() {
  if (events || document.hidden) return
  events = new EventSource(stream)
  events.onopen = () => say("Live", "live")
  events.onmessage = (e) => {
    const { region, html } = JSON.parse(e.data)
    const place = document.querySelector(`[data-live="${region}"]`)
    if (!place) return
    const wanted = document.createElement("template")
    wanted.innerHTML = html
    morph(place, wanted.content)
    ages()
  }
  events.onerror = () => {
    if (events.readyState !== EventSource.CLOSED) return say("Connecting…", "lost")
    say("Not live", "lost")
    disconnect()
    setTimeout(connect, 5000)
  }
}

function disconnect() {
  events?.close()
  events = null
}

if (stream) {
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()))
  window.addEventListener("pagehide", disconnect)
  window.addEventListener("pageshow", connect)
  connect()
}
ages()
setInterval(ages, 1000)

document.addEventListener("keydown", (e) => {
  if (e.key !== "/" || e.ctrlKey || e.metaKey || e.altKey || e.target.closest("input, textarea, select")) return
  e.preventDefault()
  document.querySelector("input[type=search]")?.focus()
})
