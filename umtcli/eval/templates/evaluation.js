"use strict";

// A line over each spectrogram shows where its player is; a click on it goes there. Only one
// player sounds at a time.
function link(figure) {
  const audio = figure.querySelector("audio");
  const picture = figure.querySelector(".picture");
  const line = picture.querySelector("i");
  const draw = () => {
    line.style.left = `${100 * (audio.currentTime / (audio.duration || 1))}%`;
  };
  audio.addEventListener("timeupdate", draw);
  audio.addEventListener("seeked", draw);
  audio.addEventListener("emptied", draw);
  audio.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) {
      if (other !== audio) other.pause();
    }
  });
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    audio.currentTime = ((event.clientX - box.left) / box.width) * (audio.duration || 0);
  });
}
document.querySelectorAll("figure").forEach(link);

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
