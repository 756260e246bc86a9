// The page of a guest's link: the portrait and its sound, and nothing else.

import { ReenactError } from "../errors.js";
import { Interruptions } from "../interruptions.js";
import { ModeMachine } from "../modes.js";
import { Player } from "../network/player.js";
import { state } from "../state.js";
import { t, translatePage } from "../words/language.js";

translatePage();
document.title = `reenact: ${t("portrait.live")}`;
const modes = new ModeMachine("loading", () => {});
const interruptions = new Interruptions(modes);
const player = new Player({ modes, gallery: { picture: null }, interruptions });

player.connect();
addEventListener("pagehide", () => modes.end());
// out of the back-forward cache: the connection has ended
addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
addEventListener("online", () => state.retry?.());

const signal = modes.enter("watch");
const { link } = document.body.dataset;
// the server has said what is wrong with the link: there is nothing to ask for
if (link) interruptions.refuse(new ReenactError({ code: link, status: 410 }));
else player.play(`${location.pathname.split("/").pop()}/whep`, signal);
