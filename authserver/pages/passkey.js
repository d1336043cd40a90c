// The ceremony of a passkey: the one thing a page cannot do without a script.
'use strict';
(() => {
  const form = document.getElementById('ceremony');
  const options = JSON.parse(document.getElementById('options').textContent).publicKey;
  const failed = () => { document.getElementById('failed').hidden = false; };
  const run = async () => {
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
      failed();
    }
  };
  document.getElementById('begin').addEventListener('click', run);
})();
