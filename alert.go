package kidoban

import "time"

// Alert is something a person should look at. Log and webhook tell it in English,
// pages in the reader's language (Told); it holds no secret. NewAlert words one.
type Alert struct {
	ID      string    `json:"id"`
	Kind    AlertKind `json:"kind"`
	At      time.Time `json:"at"`
	Subject string    `json:"subject"` // client id, host, user id, network or server that it is about
	Text    string    `json:"text"`    // one sentence: what happened
	Do      string    `json:"do"`      // one sentence: what to do

	// With is what Text and Do were made of; nil for an alert that is known by its
	// words alone, as those are that were stored before there were languages.
	With AlertWords `json:"-"`
}

// AlertKind is a stable word for a sort of alert: filters and webhooks use it.
type AlertKind string

// The kinds of alerts. AlertKinds says what each means.
const (
	AlertFirstSeenHost      AlertKind = "first_seen_host"
	AlertDeniedRegistration AlertKind = "denied_registration"
	AlertDeniedClient       AlertKind = "denied_client"
	AlertImpersonation      AlertKind = "impersonation"
	AlertRegistrationBurst  AlertKind = "registration_burst"
	AlertRegistrationFlood  AlertKind = "registration_flood"
	AlertRegistrationsFull  AlertKind = "registrations_full"
	AlertDocumentReview     AlertKind = "document_review"
	AlertConsentCampaign    AlertKind = "consent_campaign"
	AlertCallbackElsewhere  AlertKind = "callback_other_browser"
	AlertConnectOtherUser   AlertKind = "connect_other_user"
	AlertForgedConsent      AlertKind = "forged_consent"
	AlertCodeReplay         AlertKind = "code_replay"
	AlertRefreshReuse       AlertKind = "refresh_reuse"
	AlertTokenBurst         AlertKind = "token_burst"
	AlertTokenElsewhere     AlertKind = "token_new_address"
	AlertLoginGuessing      AlertKind = "login_guessing"
	AlertClonedPasskey      AlertKind = "cloned_passkey"
	AlertServerDown         AlertKind = "server_down"
	AlertDefinitionHeld     AlertKind = "definition_held"
	AlertFlowBarred         AlertKind = "flow_barred"
)

// AlertMeaning is what a kind of alert means, for documentation and filters.
type AlertMeaning struct {
	Kind     AlertKind
	Severity Severity
	Text     string // one sentence
}

// AlertKinds lists every kind with its severity, worst first.
func AlertKinds() []AlertMeaning {
	return []AlertMeaning{
		{AlertCodeReplay, Critical, "An authorization code was redeemed twice with the right verifier: somebody has a copy. The grant has ended."},
		{AlertRefreshReuse, Critical, "A refresh token that was replaced long ago was used again: somebody has a copy. The grant has ended."},
		{AlertConsentCampaign, Critical, "Several people gave access to one new client within minutes, as they do when somebody sends a link around."},
		{AlertTokenElsewhere, High, "Right after a consent the new access was used from a network that neither the person nor the client was ever seen at."},
		{AlertCallbackElsewhere, High, "A third party's answer arrived in another browser than the one that agreed."},
		{AlertConnectOtherUser, High, "A page on which one user connects accounts was opened by another."},
		{AlertClonedPasskey, High, "A passkey's counter went backwards: there may be a copy of it."},
		{AlertDefinitionHeld, High, "A server changed what it offers, or offers something that is not approved; it is held until somebody decides."},
		{AlertFlowBarred, High, "An agent that had read text that reads like orders wanted to send something out; it was refused, or waits for a person's yes."},
		{AlertTokenBurst, Medium, "A grant makes far more calls than its user ever did."},
		{AlertFirstSeenHost, Medium, "A client registered a callback at a host never seen before."},
		{AlertImpersonation, Medium, "A client registered under a name that looks like a well-known one's and returns elsewhere."},
		{AlertDeniedClient, Medium, "Somebody was sent here by a client that is on the deny-list."},
		{AlertForgedConsent, Medium, "A consent form came from another login than the one it was shown to."},
		{AlertLoginGuessing, Medium, "Many wrong logins come from one network."},
		{AlertRegistrationFlood, Medium, "Strangers register clients from many networks at once; the limit holds."},
		{AlertRegistrationsFull, Medium, "As many unused registrations wait as the configuration allows."},
		{AlertServerDown, Medium, "A server behind the gateway does not answer."},
		{AlertDocumentReview, Low, "A client document of a new domain waits for a decision."},
		{AlertRegistrationBurst, Low, "Many clients are being registered from one network; the limit holds."},
		{AlertDeniedRegistration, Low, "A client with a blocked callback tried to register. Nothing was registered."},
	}
}

// Severity returns how bad an alert of the kind is; Medium for a kind that is not
// in the list.
func (k AlertKind) Severity() Severity {
	for _, m := range AlertKinds() {
		if m.Kind == k {
			return m.Severity
		}
	}
	return Medium
}
