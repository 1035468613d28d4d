"use strict";
// Plays each embedded video with its heat beside it and a playhead on its timeline. No network, no library.
// A frame of an embedded video is one step of the model; `runs` says which steps of the whole video they are.

const data = JSON.parse(document.getElementById("data").textContent);
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

const clock = (seconds) => {
  const minutes = Math.floor(seconds / 60), rest = (seconds % 60).toFixed(1);
  if (minutes === 0) return `${rest} s`;
  const two = (part) => String(part).padStart(2, "0");
  return `${minutes < 60 ? minutes : `${Math.floor(minutes / 60)}:${two(minutes % 60)}`}:${rest.padStart(4, "0")}`;
};

// 256 levels of heat as red, green, blue, opacity: the colours of pictures.py.
const palette = Array.from({ length: 256 }, (_, level) => {
  const position = (level / 255) * (data.colours.length - 1);
  const below = Math.min(Math.floor(position), data.colours.length - 2);
  const mix = (channel) => data.colours[below][channel] * (below + 1 - position) + data.colours[below + 1][channel] * (position - below);
  return [mix(0), mix(1), mix(2), 255 * 0.9 * (level / 255) ** 0.7];
});

// One embedded video, decoded once however often it is played on the page.
const videos = data.videos.map((info) => ({ ...info, heat: bytes(info.heat), frames: info.runs.reduce((sum, [a, b]) => sum + b - a, 0), url: null }));

function urlOf(index) {
  const source = document.querySelector(`.card[data-video="${index}"] video`).getAttribute("src");
  videos[index].url ??= URL.createObjectURL(new Blob([bytes(source.slice(source.indexOf(",") + 1))], { type: "video/mp4" }));
  return videos[index].url;
}

function stepOf(info, frame) {
  for (const [first, end] of info.runs) {
    if (frame < end - first) return first + frame;
    frame -= end - first;
  }
  return info.length - 1;
}

function frameOf(info, step) { // the nearest frame that can be played
  let before = 0, best = 0, distance = Infinity;
  for (const [first, end] of info.runs) {
    const near = Math.min(Math.max(step, first), end - 1);
    if (Math.abs(near - step) < distance) [best, distance] = [before + near - first, Math.abs(near - step)];
    before += end - first;
  }
  return best;
}

// Bilinear, with the value of a token at its centre.
function paintHeat(canvas, info, frame) {
  const [rows, columns] = info.grid, fine = 8, height = rows * fine, width = columns * fine;
  if (canvas.width !== width) { canvas.width = width; canvas.height = height; }
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  const at = (row, column) => info.heat[(frame * rows + row) * columns + column];
  for (let y = 0, pixel = 0; y < height; y++) {
    const v = Math.min(Math.max((y + 0.5) / fine - 0.5, 0), rows - 1), above = Math.floor(v), below = Math.min(above + 1, rows - 1);
    for (let x = 0; x < width; x++, pixel += 4) {
      const u = Math.min(Math.max((x + 0.5) / fine - 0.5, 0), columns - 1), left = Math.floor(u), right = Math.min(left + 1, columns - 1);
      const top = at(above, left) * (1 - u + left) + at(above, right) * (u - left);
      const bottom = at(below, left) * (1 - u + left) + at(below, right) * (u - left);
      image.data.set(palette[Math.round(top * (1 - v + above) + bottom * (v - above))], pixel);
    }
  }
  context.putImageData(image, 0, 0);
}

// Joins a <video> to its heat pane; calls `shown` with each frame it shows.
function join(root, index, shown) {
  const video = root.querySelector("video"), heat = root.querySelector(".heat"), [scene, glow] = heat.querySelectorAll("canvas");
  const info = videos[index];
  const player = { video, info, frame: -1, wanted: !still };
  player.seek = (frame) => { video.currentTime = (frame + 0.5) / info.fps; };
  player.show = (seconds) => {
    const frame = Math.min(info.frames - 1, Math.max(0, Math.floor(seconds * info.fps + 0.02)));
    if (video.readyState < 2) return;
    if (scene.width !== video.videoWidth) { scene.width = video.videoWidth; scene.height = video.videoHeight; }
    scene.getContext("2d").drawImage(video, 0, 0);
    if (frame === player.frame) return;
    player.frame = frame;
    paintHeat(glow, info, frame);
    heat.classList.add("live");
    shown?.(frame);
  };
  video.controls = false;
  const follow = (_, meta) => { player.show(meta ? meta.mediaTime : video.currentTime); next(); };
  const next = () => video.requestVideoFrameCallback ? video.requestVideoFrameCallback(follow) : requestAnimationFrame(follow);
  player.start = () => {
    video.src = urlOf(index);
    for (const event of ["seeked", "loadeddata"]) video.addEventListener(event, () => player.show(video.currentTime));
    next();
  };
  return player;
}

// Videos load when they come near, play while they are seen, and rest when they are not.
const players = new Map();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const player = players.get(target);
    if (isIntersecting && !player.started) { player.started = true; player.start(); }
    if (isIntersecting && player.wanted) player.video.play().catch(() => {});
    else player.video.pause();
  }
}, { rootMargin: "100px" });

for (const root of document.querySelectorAll(".moment")) {
  const first = Number(root.dataset.first), last = Number(root.dataset.last);
  const player = join(root, Number(root.dataset.video), (frame) => { if (frame < first || frame >= last) player.seek(first); });
  player.video.addEventListener("loadedmetadata", () => { player.video.playbackRate = 0.5; player.seek(first); });
  players.set(root, player);
  watcher.observe(root);
}

for (const root of document.querySelectorAll(".card")) {
  const index = Number(root.dataset.video), info = videos[index], values = data.values[index];
  const line = root.querySelector(".timeline"), head = root.querySelector(".playhead"), readout = root.querySelector(".readout");
  const play = root.querySelector(".play"), slow = root.querySelector(".slow");
  const player = join(root, index, (frame) => {
    const step = stepOf(info, frame), value = values[Math.floor((step * values.length) / info.length)];
    head.style.left = `${((step + 0.5) / info.length) * 100}%`;
    line.setAttribute("aria-valuenow", (step / info.fps).toFixed(1));
    const score = value === null ? "no score yet" : value.toFixed(2) + (root.querySelector(".at-line") ? " × alarm line" : " of the highest");
    readout.textContent = `${clock(step / info.fps)} · ${score}`;
  });
  const goTo = (frame) => { player.wanted = false; player.video.pause(); player.seek(frame); };
  const pointTo = (event) => {
    const box = line.getBoundingClientRect(), share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 0.9999);
    goTo(frameOf(info, Math.floor(share * info.length)));
  };
  root.querySelector(".bar").hidden = false;
  head.hidden = false;
  line.addEventListener("pointerdown", (event) => { line.setPointerCapture(event.pointerId); pointTo(event); });
  line.addEventListener("pointermove", (event) => { if (event.buttons) pointTo(event); });
  line.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, PageDown: 10, PageUp: -10 }[event.key];
    if (event.key === " ") play.click();
    else if (move) goTo(Math.min(Math.max(player.frame + move, 0), info.frames - 1));
    else return;
    event.preventDefault();
  });
  play.addEventListener("click", () => { player.wanted = player.video.paused; if (player.wanted) player.video.play(); else player.video.pause(); });
  player.video.addEventListener("click", () => play.click());
  player.video.addEventListener("play", () => { play.textContent = "Pause"; });
  player.video.addEventListener("pause", () => { play.textContent = "Play"; });
  slow.addEventListener("click", () => {
    const slower = slow.getAttribute("aria-pressed") !== "true";
    slow.setAttribute("aria-pressed", slower);
    player.video.playbackRate = slower ? 0.25 : 1;
  });
  for (const jump of root.querySelectorAll(".jump")) jump.addEventListener("click", () => { player.seek(Number(jump.dataset.frame)); player.wanted = true; player.video.play(); });
  players.set(root, player);
  watcher.observe(root);
}

// A click on a heading sorts by it; another turns the order round.
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const head = button.parentElement, column = head.cellIndex, body = document.querySelector("tbody");
  const down = head.getAttribute("aria-sort") === "ascending";
  const key = (row) => row.cells[column].dataset.sort;
  const order = (a, b) => column === 0 ? key(a).localeCompare(key(b), undefined, { numeric: true }) : Number(key(a).replace("inf", "Infinity")) - Number(key(b).replace("inf", "Infinity"));
  for (const other of document.querySelectorAll("th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...[...body.rows].sort((a, b) => (down ? -order(a, b) : order(a, b))));
});
