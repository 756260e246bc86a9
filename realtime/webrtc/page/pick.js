// Where the user clicks in their own picture, to have the face there drive.

/**
 * Return the place of a click in the camera's own picture, as shares of its width and height such as "0.250,0.500"; null
 * where no picture is. The picture covers its element, so that two of its sides may be cut off.
 * @param {HTMLVideoElement} video
 * @param {{clientX: number, clientY: number}} click
 * @returns {?string}
 */
export function placeOf(video, { clientX, clientY }) {
  const { left, top, width, height } = video.getBoundingClientRect();
  if (!video.videoWidth || !video.videoHeight || !width || !height) return null;
  const scale = Math.max(width / video.videoWidth, height / video.videoHeight);
  const shown = 0.5 + (clientX - left - width / 2) / (scale * video.videoWidth);
  const y = 0.5 + (clientY - top - height / 2) / (scale * video.videoHeight);
  const x = video.classList.contains("mirrored") ? 1 - shown : shown;
  return Math.min(x, y) < 0 || Math.max(x, y) > 1 ? null : `${x.toFixed(3)},${y.toFixed(3)}`;
}
