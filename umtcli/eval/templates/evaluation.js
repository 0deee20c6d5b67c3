"use strict";

// The players of one group play the same music: they share one playhead, and whatever is played
// next goes on where the last one was. Only one player of the page sounds at a time.
const NEAR = 0.05; // seconds; a smaller jump is nobody's wish
const STEPS = [0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600];
const TICK_WIDTH = 60; // pixels between two labels of a time axis, at least

function label(seconds, step) {
  const rest = seconds % 60;
  const text = step < 1 ? rest.toFixed(1) : String(Math.round(rest));
  return seconds < 60 ? `${text} s` : `${Math.floor(seconds / 60)}:${text.padStart(2, "0")}`;
}

function drawAxis(axis, duration) {
  axis.replaceChildren();
  if (!Number.isFinite(duration) || duration <= 0) return;
  const fewest = (duration * TICK_WIDTH) / (axis.clientWidth || 1);
  const step = STEPS.find((own) => own >= fewest) || STEPS.at(-1);
  for (let at = 0; at < duration; at += step) {
    const tick = document.createElement("span");
    tick.textContent = label(at, step);
    tick.style.left = `${(100 * at) / duration}%`;
    axis.append(tick);
  }
}

function connect(group) {
  const players = [...group.querySelectorAll("figure")].map((figure) => ({
    audio: figure.querySelector("audio"),
    picture: figure.querySelector(".picture"),
    line: figure.querySelector(".picture i"),
    axis: figure.querySelector(".seconds"),
    role: figure.dataset.role,
  }));
  let time = 0; // seconds, of all of them
  let last = players[0];

  const playing = () => players.find(({ audio }) => !audio.paused);

  const draw = () => {
    for (const { audio, line } of players) {
      line.style.left = `${100 * Math.min(1, time / (audio.duration || Infinity))}%`;
    }
  };

  const moveTo = (seconds) => {
    time = Math.max(0, seconds);
    for (const { audio } of players) {
      const place = Math.min(time, audio.duration || 0);
      if (Math.abs(audio.currentTime - place) > NEAR) audio.currentTime = place;
    }
    draw();
  };

  const play = (player) => {
    const before = playing();
    if (before) time = before.audio.currentTime;
    player.audio.play();
  };

  const toggle = () => {
    const now = playing();
    if (now) now.audio.pause();
    else last.audio.play();
  };

  const bar = document.createElement("p");
  bar.className = "switch";
  const buttons = players.map((player, index) => {
    const button = document.createElement("button");
    button.textContent = `${index + 1} ${player.role}`;
    button.addEventListener("click", () => play(player));
    bar.append(button);
    return button;
  });
  const hint = document.createElement("span");
  hint.className = "quiet";
  hint.textContent = "Keys: 1, 2, … switch, space plays, ← and → move.";
  bar.append(hint);
  group.before(bar);

  const mark = () => {
    buttons.forEach((button, index) => {
      button.setAttribute("aria-pressed", String(players[index] === playing()));
    });
  };

  for (const player of players) {
    const { audio, picture, axis } = player;
    audio.addEventListener("play", () => {
      for (const other of document.querySelectorAll("audio")) {
        if (other !== audio) other.pause();
      }
      if (Math.abs(audio.currentTime - time) > NEAR && time < audio.duration) {
        audio.currentTime = time;
      }
      last = player;
      current = own;
      mark();
    });
    audio.addEventListener("pause", () => {
      if (player === last) moveTo(audio.currentTime);
      mark();
    });
    audio.addEventListener("ended", () => moveTo(0));
    audio.addEventListener("timeupdate", () => {
      if (player !== playing()) return;
      time = audio.currentTime;
      draw();
    });
    // Also where somebody moves the player's own slider; all others only follow.
    audio.addEventListener("seeked", () => {
      const now = playing();
      if ((!now || now === player) && Math.abs(audio.currentTime - time) > NEAR) {
        moveTo(audio.currentTime);
      }
    });
    audio.addEventListener("loadedmetadata", () => drawAxis(axis, audio.duration));
    audio.addEventListener("emptied", () => moveTo(0));
    picture.addEventListener("click", (event) => {
      const box = picture.getBoundingClientRect();
      moveTo(((event.clientX - box.left) / box.width) * (audio.duration || 0));
    });
  }

  const own = {
    toggle,
    switchTo: (index) => players[index] && play(players[index]),
    moveBy: (seconds) => moveTo((playing() || last).audio.currentTime + seconds),
    resize: () => players.forEach(({ axis, audio }) => drawAxis(axis, audio.duration)),
  };
  own.resize(); // what has loaded before this script has run
  mark();
  return own;
}

const groups = [...document.querySelectorAll(".players")].map(connect);
let current = groups[0]; // the one that played last: the keys are for it

addEventListener("resize", () => groups.forEach((group) => group.resize()));
document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (!current || event.ctrlKey || event.altKey || event.metaKey) return;
  if (target.matches("input, select, textarea")) return;
  if (/^[1-9]$/.test(key)) {
    current.switchTo(Number(key) - 1);
  } else if (target.matches("audio, button, a, .scroll")) {
    return; // which have a meaning of their own for the other keys
  } else if (key === " ") {
    event.preventDefault();
    current.toggle();
  } else if (key === "ArrowLeft" || key === "ArrowRight") {
    current.moveBy(key === "ArrowLeft" ? -5 : 5);
  }
});

// The heat map: a menu chooses the metric, the cells choose what the players play.
const store = document.getElementById("matrix-data");
if (store) {
  const data = JSON.parse(store.textContent);
  const menu = document.getElementById("metric");
  const cells = [...document.querySelectorAll(".matrix [data-pair]")];

  const paint = () => {
    const found = data.metrics[menu.value];
    for (const cell of cells) {
      const { text, score, note } = found[cell.dataset.pair] || { text: "-", score: null, note: "" };
      cell.textContent = text;
      cell.title = note;
      const light = score === null ? null : Math.min(1, Math.max(0, score));
      cell.style.background = light === null ? "#ccc" : `hsl(${10 + 190 * light} 65% 72%)`;
      cell.style.color = "#111";
    }
  };

  const choose = (cell) => {
    const pair = data.pairs[cell.dataset.pair];
    for (const other of cells) other.setAttribute("aria-pressed", String(other === cell));
    for (const role of ["source", "translation", "true"]) {
      const figure = document.getElementById(`clip-${role}`);
      const clip = data.clips[pair[role]];
      figure.querySelector("audio").src = clip.audio;
      figure.querySelector("img").src = clip.picture;
      figure.querySelector("figcaption").textContent = clip.caption;
    }
  };

  menu.addEventListener("change", paint);
  const buttons = cells.filter((cell) => cell.tagName === "BUTTON");
  for (const cell of buttons) cell.addEventListener("click", () => choose(cell));
  paint();
  if (buttons.length) choose(buttons[0]);
}
