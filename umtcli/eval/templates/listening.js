"use strict";

const data = JSON.parse(document.getElementById("test-data").textContent);
const answers = { umt_listening_answers: 1, test: data.test, listener: "", ratings: [], lineups: [] };
const QUALITY = ["1 bad", "2 poor", "3 fair", "4 good", "5 excellent"];
const SUCCESS = ["1 not at all", "2 a little", "3 in part", "4 mostly", "5 completely"];

// Every listener meets the questions in another order.
function shuffled(items) {
  const mixed = [...items];
  for (let i = mixed.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [mixed[i], mixed[j]] = [mixed[j], mixed[i]];
  }
  return mixed;
}

const trials = [
  ...shuffled(data.ratings).map((trial) => ({ kind: "rating", ...trial })),
  ...shuffled(data.lineups).map((trial) => ({ kind: "lineup", ...trial })),
];
let at = 0;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function player(label, clip) {
  const audio = element("audio", { controls: true, src: data.clips[clip] });
  audio.setAttribute("aria-label", label);
  audio.addEventListener("play", () => {
    audio.dataset.heard = "yes";
    for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
  });
  return element("figure", {}, element("figcaption", { textContent: label }), audio);
}

function choices(name, question, labels) {
  const options = labels.map((text, index) =>
    element(
      "label",
      { className: "choice" },
      element("input", { type: "radio", name, value: String(index + 1), required: true }),
      ` ${text}`,
    ),
  );
  return element("fieldset", {}, element("legend", { textContent: question }), ...options);
}

function ratingParts(trial) {
  return [
    element("h2", { textContent: `The music of the first clip, to be played as: ${trial.target}` }),
    player("Source", trial.source),
    player("To be rated", trial.clip),
    choices("quality", "How good does the second clip sound?", QUALITY),
    choices("success", `How well was the music turned into ${trial.target}?`, SUCCESS),
  ];
}

function lineupParts(trial) {
  trial.clips = shuffled(trial.clips);
  const letters = trial.clips.map((_, index) => `Clip ${index + 1}`);
  return [
    element("h2", { textContent: "One of these clips is the original. Which?" }),
    ...trial.clips.map((clip, index) => player(letters[index], clip)),
    choices("choice", "The original is", letters),
  ];
}

function show() {
  const trial = trials[at];
  const form = document.getElementById("questions");
  document.getElementById("progress").textContent = `Question ${at + 1} of ${trials.length}`;
  form.replaceChildren(
    ...(trial.kind === "rating" ? ratingParts(trial) : lineupParts(trial)),
    element("p", { id: "complaint", className: "error" }),
    element("button", { className: "main", textContent: "Next" }),
  );
  form.querySelector("audio").focus();
}

function keep(trial, given) {
  const { id } = trial;
  if (trial.kind === "rating") {
    answers.ratings.push({ id, quality: Number(given.quality), success: Number(given.success) });
  } else {
    answers.lineups.push({ id, choice: trial.clips[Number(given.choice) - 1] });
  }
}

function save() {
  const plain = answers.listener.replace(/[^\p{L}\p{N}_-]+/gu, "-");
  const name = `answers-${data.test}-${plain}.json`;
  const file = new Blob([JSON.stringify(answers, null, 1)], { type: "application/json" });
  const link = element("a", { href: URL.createObjectURL(file), download: name });
  link.click();
  document.getElementById("file").textContent = name;
}

function reveal(name) {
  for (const own of ["welcome", "trial", "end"]) document.getElementById(own).hidden = own !== name;
}

const warn = (event) => event.preventDefault();

document.getElementById("count").textContent = String(trials.length);
document.getElementById("save").addEventListener("click", save);
document.getElementById("start").addEventListener("submit", (event) => {
  event.preventDefault();
  answers.listener = document.getElementById("listener").value.trim();
  if (!answers.listener) return;
  addEventListener("beforeunload", warn); // half a test would be lost
  reveal("trial");
  show();
});
document.getElementById("questions").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  if ([...form.querySelectorAll("audio")].some((audio) => !audio.dataset.heard)) {
    document.getElementById("complaint").textContent = "Please listen to every clip first.";
    return;
  }
  keep(trials[at], Object.fromEntries(new FormData(form)));
  at += 1;
  if (at < trials.length) {
    show();
  } else {
    form.replaceChildren();
    removeEventListener("beforeunload", warn);
    reveal("end");
    save();
  }
});
