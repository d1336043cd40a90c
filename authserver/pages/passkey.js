// The ceremony of a passkey: the one thing a page cannot do without a script.
'use strict';
(() => {
  const form = document.getElementById('ceremony');
  const options = JSON.parse(document.getElementById('options').textContent).publicKey;
  const say = (id) => {
    for (const e of document.querySelectorAll('.outcome')) e.hidden = e.id !== id;
  };
  const run = async () => {
    say('');
    try {
      let credential;
      if (form.dataset.kind === 'get') {
        credential = await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
      } else {
        credential = await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) });
      }
      form.elements.credential.value = JSON.stringify(credential.toJSON());
      form.submit();
    } catch (e) {
      // The page named the keys that the account has: this device holds one of them.
      say(e.name === 'InvalidStateError' && document.getElementById('twice') ? 'twice' : 'failed');
    }
  };
  document.getElementById('begin').addEventListener('click', run);
  // Enter in the field for the name is the button, too.
  form.addEventListener('submit', (e) => { e.preventDefault(); run(); });
})();
